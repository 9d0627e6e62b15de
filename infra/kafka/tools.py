"""Kafka's own command line tools by the names of its distribution. Knows which class each is and what it is told."""

import os
from importlib.resources import as_file, files

from infra.client import Access, access
from infra.kafka.broker import java_command, prepared_class_path
from schemas.errors import Refused

_TOOLS = "org.apache.kafka.tools"

# Tools that talk to a broker; they are told which one.
CLIENTS = {
    "kafka-acls": f"{_TOOLS}.AclCommand",
    "kafka-broker-api-versions": f"{_TOOLS}.BrokerApiVersionsCommand",
    "kafka-client-metrics": f"{_TOOLS}.ClientMetricsCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": f"{_TOOLS}.consumer.ConsoleConsumer",
    "kafka-console-producer": f"{_TOOLS}.ConsoleProducer",
    "kafka-console-share-consumer": f"{_TOOLS}.consumer.ConsoleShareConsumer",
    "kafka-consumer-groups": f"{_TOOLS}.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test": f"{_TOOLS}.ConsumerPerformance",
    "kafka-delegation-tokens": f"{_TOOLS}.DelegationTokenCommand",
    "kafka-delete-records": f"{_TOOLS}.DeleteRecordsCommand",
    "kafka-features": f"{_TOOLS}.FeatureCommand",
    "kafka-get-offsets": f"{_TOOLS}.GetOffsetShell",
    "kafka-groups": f"{_TOOLS}.GroupsCommand",
    "kafka-leader-election": f"{_TOOLS}.LeaderElectionCommand",
    "kafka-log-dirs": f"{_TOOLS}.LogDirsCommand",
    "kafka-metadata-quorum": f"{_TOOLS}.MetadataQuorumCommand",
    "kafka-producer-perf-test": f"{_TOOLS}.ProducerPerformance",
    "kafka-reassign-partitions": f"{_TOOLS}.reassign.ReassignPartitionsCommand",
    "kafka-share-groups": f"{_TOOLS}.consumer.group.ShareGroupCommand",
    "kafka-streams-application-reset": f"{_TOOLS}.StreamsResetter",
    "kafka-streams-groups": f"{_TOOLS}.streams.StreamsGroupCommand",
    "kafka-topics": f"{_TOOLS}.TopicCommand",
    "kafka-transactions": f"{_TOOLS}.TransactionsCommand",
    "kafka-verifiable-consumer": f"{_TOOLS}.VerifiableConsumer",
    "kafka-verifiable-producer": f"{_TOOLS}.VerifiableProducer",
}
# Tools that read files, or take the broker in words of their own.
LOCAL = {
    "kafka-cluster": f"{_TOOLS}.ClusterTool",
    "kafka-dump-log": f"{_TOOLS}.DumpLogSegments",
    "kafka-e2e-latency": f"{_TOOLS}.EndToEndLatency",
    "kafka-jmx": f"{_TOOLS}.JmxTool",
    "kafka-replica-verification": f"{_TOOLS}.ReplicaVerificationTool",
    "kafka-storage": "kafka.tools.StorageTool",
}
BROKER_OPTIONS = ("--bootstrap-server", "--bootstrap-servers", "--bootstrap-controller", "--help", "--version")
COMMAND_CONFIG = "--command-config"
CONFIG_OPTIONS = (COMMAND_CONFIG, "--consumer.config", "--producer.config", "--consumer-config", "--producer-config")
HEAP = "256m"


def full_name(tool: str) -> str:
    """The distribution's name for `tool`, which may leave out `kafka-` or keep `.sh`. Raises `Refused`."""
    name = tool.removesuffix(".sh")
    name = name if name.startswith("kafka-") else f"kafka-{name}"
    if name not in CLIENTS and name not in LOCAL:
        raise Refused(f'no tool of Kafka\'s is called "{tool}"; there are {", ".join(sorted({**CLIENTS, **LOCAL}))}')
    return name


def needs_broker(tool: str, arguments: list[str]) -> bool:
    """Whether the tool has to be told a broker that `arguments` do not name."""
    named = any(word.partition("=")[0] in BROKER_OPTIONS for word in arguments)
    return full_name(tool) in CLIENTS and not named


def become(tool: str, arguments: list[str], *, address: str | None) -> None:
    """Turns this process into the tool, so that its output, exit code and Ctrl-C are the tool's own."""
    name = full_name(tool)
    if address is not None:
        arguments = [*_told(arguments, access(address)), *arguments]
        arguments = ["--bootstrap-server", address, *arguments]
    with as_file(files("infra.kafka") / "log4j2.properties") as logging:
        command = [
            *java_command(prepared_class_path(), heap=HEAP, level="WARN", brief=True),
            f"-Dlog4j2.configurationFile={logging}",
            "-Dtelltale.log.target=SYSTEM_ERR",
            {**CLIENTS, **LOCAL}[name],
            *arguments,
        ]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _told(arguments: list[str], who: Access) -> list[str]:
    """How the tool is told who it is: by a file that only this process, which becomes the tool, can open."""
    if who.protocol == "PLAINTEXT" or any(word.partition("=")[0] in CONFIG_OPTIONS for word in arguments):
        return []
    if not hasattr(os, "memfd_create"):
        raise Refused("this system has no files in memory: write who you are to a file and give it by --command-config")
    file = os.memfd_create("kafka-client", 0)  # no MFD_CLOEXEC: it is to outlive the exec
    os.write(file, who.java().encode())
    return [COMMAND_CONFIG, f"/proc/self/fd/{file}"]
