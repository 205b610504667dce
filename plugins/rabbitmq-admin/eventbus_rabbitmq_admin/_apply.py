"""Takes the steps of a plan at a broker, by its management API."""

from __future__ import annotations

from collections.abc import Callable

from eventbus import EventBusError
from eventbus_rabbitmq_admin._layout import BindingLayout, ExchangeLayout, PolicyLayout, QueueLayout
from eventbus_rabbitmq_admin._management import Management, NotThere
from eventbus_rabbitmq_admin._plan import Plan, Step


class Refused(EventBusError):
    """A plan that would destroy something, without leave to do so. Nothing has been changed."""


def apply(
    plan: Plan,
    management: Management,
    *,
    allow_destroy: bool = False,
    allow_data_loss: bool = False,
    told: Callable[[Step], None] = lambda step: None,
) -> None:
    """Take all steps, or none: what is refused is found out before the first.

    :param allow_destroy: leave to delete and make anew what differs, and bindings that are wanted no more.
    :param allow_data_loss: leave to delete a queue that holds messages.
    :param told: called after each step.
    :raises Refused: a step lacks leave.
    :raises EventBusError: the broker refused a step; those before it are done, and a new plan shows what is left.
    """
    destructive = [step for step in plan.steps if step.destructive]
    if destructive and not allow_destroy:
        names = "; ".join(f"{step.action} {step.kind} {step.name}" for step in destructive)
        raise Refused(f"this plan destroys something ({names}): allow it with --allow-destroy")
    if not allow_data_loss:
        _no_messages_lost(plan, management)
    for step in plan.steps:
        _take(plan.vhost, step, management, allow_data_loss=allow_data_loss)
        told(step)


def _no_messages_lost(plan: Plan, management: Management) -> None:
    for step in plan.steps:
        if step.kind == "queue" and step.action == "recreate" and management.holds_messages(plan.vhost, step.name):
            raise Refused(
                f"queue {step.name} holds messages, which a recreation would delete: let its consumers finish "
                "them, move them, or allow it with --allow-data-loss"
            )


def _take(vhost: str, step: Step, management: Management, *, allow_data_loss: bool) -> None:
    item = step.item
    if isinstance(item, PolicyLayout):
        body = {
            "pattern": item.pattern,
            "apply-to": item.apply_to,
            "definition": dict(item.definition),
            "priority": item.priority,
        }
        management.put("policies", vhost, item.name, body=body)
    elif isinstance(item, BindingLayout):
        _bind(vhost, step, item, management)
    elif isinstance(item, ExchangeLayout):
        if step.action == "recreate":
            management.delete("exchanges", vhost, item.name)
        body = {
            "type": item.kind,
            "durable": item.durable,
            "auto_delete": item.auto_delete,
            "internal": item.internal,
            "arguments": dict(item.arguments),
        }
        management.put("exchanges", vhost, item.name, body=body)
    else:
        _queue(vhost, step, item, management, allow_data_loss=allow_data_loss)


def _queue(vhost: str, step: Step, item: QueueLayout, management: Management, *, allow_data_loss: bool) -> None:
    if step.action == "recreate":
        # Again, right before: messages may have come since the plan was checked.
        if not allow_data_loss and management.holds_messages(vhost, item.name):
            raise Refused(f"queue {item.name} has got messages meanwhile, so it was not deleted")
        management.delete("queues", vhost, item.name)
    body = {"durable": item.durable, "auto_delete": item.auto_delete, "arguments": dict(item.arguments)}
    management.put("queues", vhost, item.name, body=body)


def _bind(vhost: str, step: Step, item: BindingLayout, management: Management) -> None:
    path = ("bindings", vhost, "e", item.source, "q" if item.to_queue else "e", item.destination)
    if step.action == "create":
        management.post(*path, body={"routing_key": item.routing_key, "arguments": dict(item.arguments)})
        return
    for known in management.get(*path):
        if known["routing_key"] == item.routing_key and known["arguments"] == dict(item.arguments):
            try:
                management.delete(*path, known["properties_key"])
            except NotThere:
                pass
