"""The queue of a deployment of several machines, on RabbitMQ 3.10 or later.

One leader (`AmqpQueue`) publishes units and hears reports, any number of workers (`AmqpWorkSource`) take
units, all apps tell each other what changed (`AmqpHints`). `celery` speaks to the DID finders and sidecars
of others. `topology` lists what is declared in the broker; `flight` and `hands` are the books of both sides.
"""

from __future__ import annotations

from servicex_server.queue.transports.amqp.hints import AmqpHints
from servicex_server.queue.transports.amqp.leader import AmqpQueue
from servicex_server.queue.transports.amqp.probe import BrokerSight, probe_broker
from servicex_server.queue.transports.amqp.worker import AmqpDelivery, AmqpWorkSource

__all__ = ["AmqpDelivery", "AmqpHints", "AmqpQueue", "AmqpWorkSource", "BrokerSight", "probe_broker"]
