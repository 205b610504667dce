"""RabbitMQ from code: topology plan and apply, least privilege, definitions, a broker in one command, doctor."""
