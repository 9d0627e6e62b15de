"""One node in KRaft's combined mode (broker and controller), on loopback. Writes its files, says its command.

Starts nothing itself: who runs the command (supervisor, test fixture) also ends it with SIGTERM.
"""

import os
import re
import secrets
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from infra import java
from infra.client import OPERATOR, Access, connection, java_properties
from infra.kafka import jars
from infra.ports import LOOPBACK
from schemas.errors import Refused, Unavailable

HEAP = "512m"
"""Default of `TELLTALE_KAFKA_HEAP`. Some 200 MB are in use with twelve topics; below 256m the broker starves."""
HEAP_OF_SEVERAL = "384m"
"""The same where several nodes share the machine."""

FORMAT_S_MAX = 60
SETTINGS = "server.properties"
META = "data/meta.properties"
"""Who a node is: written when its storage is formatted."""


@dataclass(frozen=True, slots=True)
class Door:
    """A listener for devices: TLS, and no right but what was given. Who comes is told by a password (SCRAM-SHA-512),
    or, where there is somebody to `vouch`, by a certificate (its common name). `host` and `port` are bound;
    `reached_at` is what devices are told; `keystore` is a PEM file of key and chain, `vouch` one of the authority."""

    host: str
    port: int
    reached_at: str
    keystore: Path
    vouch: Path | None = None

    @property
    def address(self) -> str:
        return f"{self.reached_at}:{self.port}"

    def properties(self, before: dict[str, str]) -> dict[str, str]:
        """What it changes in the broker's settings."""
        name, protocol = ("DEVICES", "SASL_SSL") if self.vouch is None else ("CERTIFICATES", "SSL")
        listener = f"listener.name.{name.lower()}"
        who = {
            f"{listener}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            f"{listener}.scram-sha-512.sasl.jaas.config": f"{SCRAM_LOGIN} required;",
            # A device whose credential was revoked is asked again within this time, however long it stays connected.
            f"{listener}.connections.max.reauth.ms": "600000",
        }
        if self.vouch is not None:
            who = {
                f"{listener}.ssl.client.auth": "required",
                f"{listener}.ssl.truststore.type": "PEM",
                f"{listener}.ssl.truststore.location": str(self.vouch),
                f"{listener}.ssl.principal.mapping.rules": r"RULE:^CN=([A-Za-z0-9._-]+)$/$1/",
            }
        return {
            "listeners": f"{before['listeners']},{name}://{self.host}:{self.port}",
            "advertised.listeners": f"{before['advertised.listeners']},{name}://{self.address}",
            "listener.security.protocol.map": f"{before['listener.security.protocol.map']},{name}:{protocol}",
            f"{listener}.ssl.keystore.type": "PEM",
            f"{listener}.ssl.keystore.location": str(self.keystore),
            f"{listener}.ssl.enabled.protocols": "TLSv1.3,TLSv1.2",
            **who,
        }


SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker lives and listens. `folder` is the broker's own; its data is in `folder/data`."""

    folder: Path
    port: int
    controller_port: int
    node_id: int = 1
    doors: tuple[Door, ...] = ()
    """Listeners for devices. Where there is one, everybody is asked who he is, on loopback too: the operator by
    `operator`, his password, the services by passwords that he gives them."""
    operator: str | None = None
    quorum: Mapping[int, int] | None = None
    """Controller ports by node id of all nodes of the cluster, this one's included; None: it is alone."""
    cluster_id: str | None = None
    """What all nodes of a cluster are formatted with; None: drawn when the storage is formatted."""

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def copies(self) -> int:
        """Of each partition: one on every node."""
        return len(self.quorum or (self.node_id,))

    @property
    def copies_in_step_min(self) -> int:
        """Below which a write is refused: with three nodes one may be away, and what is acknowledged is on two."""
        return self.copies // 2 + 1

    def properties(self) -> dict[str, str]:
        """The broker's settings under Kafka's own names."""
        made = self._own()
        if self.operator is not None:
            made |= self._asking(self.operator)
        for door in self.doors:
            made |= door.properties(made)
        return made

    def _asking(self, password: str) -> dict[str, str]:
        """On loopback too it is asked who comes, between the nodes as well."""
        login = f'{PLAIN_LOGIN} required username="{OPERATOR}" password="{password}" user_{OPERATOR}="{password}";'
        return {
            "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
            "listener.name.client.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.client.plain.sasl.jaas.config": login,
            "listener.name.client.scram-sha-512.sasl.jaas.config": f"{SCRAM_LOGIN} required;",
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": login,
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{OPERATOR}",
            "allow.everyone.if.no.acl.found": "false",
        }

    def _own(self) -> dict[str, str]:
        quorum = self.quorum or {self.node_id: self.controller_port}
        copies, in_step = str(self.copies), str(self.copies_in_step_min)
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            # A fixed quorum: its ports may differ from one start to the next, as recorded ones may not.
            "controller.quorum.voters": ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in quorum.items()),
            "listeners": f"CLIENT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{self.address}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            # Topics come from the catalogue; a mistyped name must be an error.
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": in_step,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_step,
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_step,
            "share.coordinator.state.topic.num.partitions": "1",
            # One machine: nobody to wait for when a group forms, and a killed worker must be missed in seconds.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # After a kill -9 the controller takes the broker back only when the session of its former self has run
            # out. 9 s by default; below 3 s a long pause of a busy machine would take a healthy broker out, and
            # among several that moves all leaders, so those are given more.
            "broker.session.timeout.ms": "3000" if self.copies == 1 else "6000",
            "broker.heartbeat.interval.ms": "500",
            # Largest record of the catalogue plus framing (16 MB); a topic may say less.
            "message.max.bytes": str(17 * 1024 * 1024),
            "replica.fetch.max.bytes": str(17 * 1024 * 1024),
            # A replay may start as far back as the longest retention, so offsets outlive any pause of a group.
            "offsets.retention.minutes": str(365 * 24 * 60),
        }

    def prepare(self, *, class_path: str) -> None:
        """Writes the settings and formats the storage once, by Kafka's own tool. Raises `Refused`, `Unavailable`."""
        if "," in str(self.folder):
            raise Refused(f"{self.folder}: Kafka takes no folder with a comma in its name; name another one with --dir")
        self.folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.folder / SETTINGS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)  # of before there was a password in it
            file.write(java_properties(self.properties()))
        (self.folder / "log4j2.properties").write_text((files("infra.kafka") / "log4j2.properties").read_text())
        if (self.folder / META).exists():
            return
        cluster = self.cluster_id or new_cluster_id()
        tool = [*self.java(class_path, heap="128m", level="WARN", brief=True), "kafka.tools.StorageTool"]
        formatting = subprocess.run(
            [*tool, "format", "--cluster-id", cluster, "--config", str(self.folder / SETTINGS)],
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            timeout=FORMAT_S_MAX,
            check=False,
        )
        if formatting.returncode != 0:
            said = (formatting.stderr or formatting.stdout).strip().splitlines() or ["nothing"]
            raise Unavailable(f"Kafka could not format {self.folder / 'data'}: {said[-1]}")

    def command(self, *, class_path: str) -> list[str]:
        """The broker in the foreground; logs to standard output, ends on SIGTERM."""
        running = self.java(class_path, heap=heap(HEAP if self.copies == 1 else HEAP_OF_SEVERAL), brief=brief())
        return [*running, "-XX:+ExitOnOutOfMemoryError", "kafka.Kafka", str(self.folder / SETTINGS)]

    def environment(self) -> dict[str, str]:
        """Java finds a folder whose name is no ASCII only where the locale says how names are written."""
        return {} if str(self.folder).isascii() else {"LC_ALL": "C.UTF-8"}

    def java(self, class_path: str, *, heap: str, level: str = "INFO", brief: bool = False) -> list[str]:
        return [
            *java_command(class_path, heap=heap, level=level, brief=brief),
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
        ]


def java_command(class_path: str, *, heap: str, level: str, brief: bool = False) -> list[str]:
    """Java with what every program of Kafka's gets here. `brief`: it ends within minutes, so compiling well and
    collecting garbage in parallel would cost more than they gain: half of the CPU time of a start and of a broker's
    first minute."""
    runtime = java.find()
    # Java 24 and newer warn at each start about calls that Kafka makes on purpose.
    quiet = (
        ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"] if runtime.major >= 24 else []
    )
    hasty = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if brief else []
    options = [f"-Xmx{heap}", "-Djava.awt.headless=true", f"-Dtelltale.log.level={level}"]
    return [str(runtime.program), *quiet, *hasty, *options, "-cp", class_path]


def new_cluster_id() -> str:
    """Drawn as Kafka's own tool does; a leading dash would be read as an option."""
    return "t" + urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")[1:]


def heap(usual: str = HEAP) -> str:
    """`TELLTALE_KAFKA_HEAP` as Java takes it, such as 512m or 2g, or else `usual`. Raises `Refused`."""
    asked = os.environ.get("TELLTALE_KAFKA_HEAP", usual)
    if not re.fullmatch(r"[1-9]\d*[mMgG]", asked):
        raise Refused(f'TELLTALE_KAFKA_HEAP: expected a size such as 512m or 2g, got "{asked}"')
    return asked


def brief() -> bool:
    """`TELLTALE_KAFKA_BRIEF`: whether brokers are to end within minutes. Raises `Refused`."""
    said = os.environ.get("TELLTALE_KAFKA_BRIEF", "false")
    if said not in ("true", "false"):
        raise Refused(f'TELLTALE_KAFKA_BRIEF: expected true or false, got "{said}"')
    return said == "true"


def prepared_class_path() -> str:
    """The class path, with a progress line on a terminal while jars are downloaded."""
    from infra.progress import download_line  # noqa: PLC0415 - rich is slow to import and rarely needed

    with download_line(f"Kafka {jars.kafka_version()}") as progress:
        return jars.class_path(progress=progress)


def answers(address: str, *, timeout_s: float = 1.0, node_id: int | None = None, who: Access | None = None) -> bool:
    """Whether a broker at `address` answers a metadata request, and counts `node_id` among the brokers at work. Blocks
    `timeout_s` at most."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - the edge imports this package's neighbours without it
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    client = AdminClient({**connection(address, who), "socket.timeout.ms": 1000})
    try:
        brokers = client.list_topics(timeout=timeout_s).brokers
    except KafkaException:
        return False
    return bool(brokers) if node_id is None else node_id in brokers
