// Go's amqp091-go, with the arguments and the answer of the Python clients (see clients/shared.py).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const source, contentType = "benchmarks", "application/json"

var (
	url      = flag.String("url", "", "")
	exchange = flag.String("exchange", "", "")
	key      = flag.String("key", "", "")
	queue    = flag.String("queue", "", "")
	_        = flag.String("queue-type", "", "")
	messages = flag.Int("messages", 1, "")
	window   = flag.Int("window", 1, "")
	prefetch = flag.Int("prefetch", 1, "")
	bodyFile = flag.String("body", "", "")
)

type question struct {
	Number int `json:"number"`
}

type sample struct {
	Messages  int       `json:"messages"`
	Seconds   float64   `json:"seconds"`
	CPU       float64   `json:"cpu"`
	Latencies []float64 `json:"latencies"`
}

type stopwatch struct {
	began time.Time
	cpu   float64
}

func start() stopwatch { return stopwatch{time.Now(), cpuSeconds()} }

func (w stopwatch) stop(latencies []float64) sample {
	if latencies == nil {
		latencies = []float64{}
	}
	return sample{*messages, time.Since(w.began).Seconds(), cpuSeconds() - w.cpu, latencies}
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(used.Utime) + seconds(used.Stime)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func connect() (*amqp.Connection, *amqp.Channel) {
	connection, err := amqp.Dial(*url)
	must(err)
	channel, err := connection.Channel()
	must(err)
	return connection, channel
}

// failOnReturn ends the program when a mandatory message cannot be routed.
func failOnReturn(channel *amqp.Channel) {
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	go func() {
		for message := range returned {
			log.Fatalf("returned: %s", message.ReplyText)
		}
	}()
}

type marks struct {
	stamp time.Time
	text  string
}

func newMarks() marks {
	now := time.Now().UTC()
	return marks{now, now.Format("2006-01-02T15:04:05.000000Z")}
}

func (m marks) publishing(number int, body []byte, mode uint8) amqp.Publishing {
	id := fmt.Sprintf("01a20863-9ee4-7a07-ae1d-%012x", number)
	return amqp.Publishing{
		ContentType:  contentType,
		DeliveryMode: mode,
		MessageId:    id,
		Timestamp:    m.stamp,
		Type:         *key,
		AppId:        source,
		Headers: amqp.Table{
			"ce-id": id, "ce-source": source, "ce-specversion": "1.0",
			"ce-subject": *key, "ce-time": m.text, "ce-type": *key,
		},
		Body: body,
	}
}

func send(channel *amqp.Channel, message amqp.Publishing) *amqp.DeferredConfirmation {
	confirmation, err := channel.PublishWithDeferredConfirm(*exchange, *key, true, false, message)
	must(err)
	return confirmation
}

func await(confirmation *amqp.DeferredConfirmation) {
	if !confirmation.Wait() {
		log.Fatal("a message was refused")
	}
}

// publish keeps the window full; a second goroutine waits for the confirms.
func publish(body []byte) sample {
	connection, channel := connect()
	defer connection.Close()
	must(channel.Confirm(false))
	failOnReturn(channel)
	made := newMarks()
	await(send(channel, made.publishing(0, body, amqp.Persistent)))
	if *window == 1 {
		return publishOne(channel, made, body)
	}
	places := make(chan struct{}, *window)
	sent := make(chan *amqp.DeferredConfirmation, *window)
	done := make(chan struct{})
	go func() {
		for confirmation := range sent {
			await(confirmation)
			<-places
		}
		close(done)
	}()
	watch := start()
	for number := 0; number < *messages; number++ {
		places <- struct{}{}
		sent <- send(channel, made.publishing(number, body, amqp.Persistent))
	}
	close(sent)
	<-done
	return watch.stop(nil)
}

func publishOne(channel *amqp.Channel, made marks, body []byte) sample {
	latencies := make([]float64, *messages)
	watch := start()
	for number := range latencies {
		began := time.Now()
		await(send(channel, made.publishing(number, body, amqp.Persistent)))
		latencies[number] = time.Since(began).Seconds()
	}
	return watch.stop(latencies)
}

// consume acks every message by itself.
func consume() sample {
	connection, channel := connect()
	defer connection.Close()
	must(channel.Qos(*prefetch, 0, false))
	deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
	must(err)
	var watch stopwatch
	left := *messages
	for delivery := range deliveries {
		if left == *messages {
			watch = start()
		}
		must(delivery.Ack(false))
		if left--; left == 0 {
			return watch.stop(nil)
		}
	}
	log.Fatal("the broker closed the connection")
	return sample{}
}

type answered struct {
	confirmation *amqp.DeferredConfirmation
	question     amqp.Delivery
}

// respond answers on a connection of its own. A question is acked when its answer is confirmed, as eventbus does it:
// a responder that dies between the two would otherwise leave the asker without an answer.
func respond() *amqp.Connection {
	connection, channel := connect()
	must(channel.Confirm(false))
	answers := make(chan answered, *prefetch)
	go func() {
		for one := range answers {
			if !one.confirmation.Wait() {
				return // the connection is being closed
			}
			must(one.question.Ack(false))
		}
	}()
	must(channel.Qos(*prefetch, 0, false))
	deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
	must(err)
	made := newMarks()
	go func() {
		for delivery := range deliveries {
			var asked question
			must(json.Unmarshal(delivery.Body, &asked))
			body, err := json.Marshal(asked)
			must(err)
			answer := made.publishing(asked.Number, body, amqp.Transient)
			answer.CorrelationId = delivery.CorrelationId
			confirmation, err := channel.PublishWithDeferredConfirm("", delivery.ReplyTo, true, false, answer)
			must(err)
			answers <- answered{confirmation, delivery}
		}
	}()
	return connection
}

// caller matches answers, from an exclusive reply queue, with questions by their correlation id.
type caller struct {
	channel *amqp.Channel
	replyTo string
	made    marks
	lock    sync.Mutex
	open    map[string]chan []byte
}

func newCaller() (*amqp.Connection, *caller) {
	connection, channel := connect()
	must(channel.Confirm(false))
	failOnReturn(channel)
	reply, err := channel.QueueDeclare("", false, true, true, false, nil)
	must(err)
	answers, err := channel.Consume(reply.Name, "", true, true, false, false, nil)
	must(err)
	c := &caller{channel: channel, replyTo: reply.Name, made: newMarks(), open: map[string]chan []byte{}}
	go func() {
		for answer := range answers {
			c.lock.Lock()
			waiting := c.open[answer.CorrelationId]
			delete(c.open, answer.CorrelationId)
			c.lock.Unlock()
			if waiting != nil {
				waiting <- answer.Body
			}
		}
	}()
	return connection, c
}

func (c *caller) ask(number int) {
	body, err := json.Marshal(question{number})
	must(err)
	message := c.made.publishing(number, body, amqp.Transient)
	message.ReplyTo, message.CorrelationId = c.replyTo, message.MessageId
	waiting := make(chan []byte, 1)
	c.lock.Lock()
	c.open[message.MessageId] = waiting
	c.lock.Unlock()
	send(c.channel, message)
	var answer question
	must(json.Unmarshal(<-waiting, &answer))
	if answer.Number != number {
		log.Fatal("the answer to another question")
	}
}

// rpc asks from as many goroutines as the window holds.
func rpc() sample {
	defer respond().Close()
	connection, c := newCaller()
	defer connection.Close()
	c.ask(0)
	latencies, numbers := make([]float64, *messages), make(chan int, *messages)
	for number := range latencies {
		numbers <- number
	}
	close(numbers)
	var asking sync.WaitGroup
	asking.Add(*window)
	watch := start()
	for n := 0; n < *window; n++ {
		go func() {
			defer asking.Done()
			for number := range numbers {
				began := time.Now()
				c.ask(number)
				latencies[number] = time.Since(began).Seconds()
			}
		}()
	}
	asking.Wait()
	return watch.stop(latencies)
}

func main() {
	must(flag.CommandLine.Parse(os.Args[2:]))
	body, err := os.ReadFile(*bodyFile)
	must(err)
	var measured sample
	switch strings.TrimSuffix(os.Args[1], "-64k") {
	case "publish", "publish-one":
		measured = publish(body)
	case "consume":
		measured = consume()
	case "rpc":
		measured = rpc()
	default:
		log.Fatalf("no such work: %s", os.Args[1])
	}
	must(json.NewEncoder(os.Stdout).Encode(measured))
}
