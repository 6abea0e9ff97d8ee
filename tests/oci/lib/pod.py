"""Runs a pod of a Kubernetes manifest as a kubelet would, through containerd's CRI socket.

Usage: pod.py SOCKET MANIFEST DIRECTORY. The manifest holds a RuntimeClass and a pod of it. Of the pod, as much is understood
as the trial needs: command, capabilities, allowPrivilegeEscalation, annotations, empty directories. Then reads lines from
standard input: `exec CONTAINER WORD...` prints what the program said and its exit code, `state CONTAINER` prints its state,
`log CONTAINER` its log, and `end` or the end of input ends the pod.

Messages are encoded by hand: a field is (number, value), as the published api.proto numbers them.
"""

import os
import sys

import grpc
import yaml


def varint(number):
    said = bytearray()
    while number > 127:
        said.append(number & 127 | 128)
        number >>= 7
    said.append(number)
    return bytes(said)


def message(*fields):
    """Fields of a message: numbers and truths as varints, text and messages with their length, lists as repetition."""
    said = b""
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                said += varint(number << 3) + varint(int(one))
            else:
                data = one.encode() if isinstance(one, str) else one
                said += varint(number << 3 | 2) + varint(len(data)) + data
    return said


def pairs(mapping):
    return [message((1, key), (2, str(value))) for key, value in mapping.items()]


def parsed(data):
    """The fields of a message; of a repeated one, the last."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found[tag >> 3] = number()
        else:
            length = number()
            found[tag >> 3] = data[at : at + length]
            at += length
    return found


class Kubelet:
    def __init__(self, socket):
        self.channel = grpc.insecure_channel("unix://" + socket)

    def ask(self, method, *fields):
        call = self.channel.unary_unary("/runtime.v1.RuntimeService/" + method, lambda x: x, lambda x: x)
        return parsed(call(message(*fields), timeout=60))


POD, CONTAINER, NODE = 0, 1, 2
STATES = {0: "created", 1: "running", 2: "exited", 3: "unknown"}


def main():
    socket, manifest, directory = sys.argv[1:]
    with open(manifest) as file:
        documents = {document["kind"]: document for document in yaml.safe_load_all(file)}
    handlers = {documents["RuntimeClass"]["metadata"]["name"]: documents["RuntimeClass"]["handler"]}
    pod, spec = documents["Pod"], documents["Pod"]["spec"]
    annotations = pod["metadata"].get("annotations", {})
    kubelet = Kubelet(socket)
    logs = os.path.join(directory, "logs")
    os.makedirs(logs, exist_ok=True)
    namespaces = message((1, NODE if spec.get("hostNetwork") else POD), (2, CONTAINER), (3, POD))
    sandbox_config = message(
        (1, message((1, pod["metadata"]["name"]), (2, "uid-1"), (3, "default"), (4, 0))),
        (2, pod["metadata"]["name"]),
        (3, logs),
        (7, pairs(annotations)),
        (8, message((2, message((1, namespaces))))),
    )
    sandbox = kubelet.ask("RunPodSandbox", (1, sandbox_config), (2, handlers[spec["runtimeClassName"]]))[1].decode()
    volumes = {}
    for volume in spec.get("volumes", []):
        volumes[volume["name"]] = os.path.join(directory, "volume-" + volume["name"])
        os.makedirs(volumes[volume["name"]], exist_ok=True)
        os.chmod(volumes[volume["name"]], 0o777)
    containers = {}
    for container in spec["containers"]:
        security = container.get("securityContext", {})
        capabilities = security.get("capabilities", {})
        context = message(
            (1, message((1, capabilities.get("add", [])), (2, capabilities.get("drop", [])))),
            (3, namespaces),
            (11, int(not security.get("allowPrivilegeEscalation", True))),
            (13, ["/proc/kcore", "/proc/keys", "/sys/firmware"]),
            (14, ["/proc/sys", "/proc/irq"]),
        )
        config = message(
            (1, message((1, container["name"]), (2, 0))),
            (2, message((1, container["image"]))),
            (3, container.get("command", [])),
            (4, container.get("args", [])),
            (7, [message((1, mount["mountPath"]), (2, volumes[mount["name"]])) for mount in container.get("volumeMounts", [])]),
            (10, pairs(annotations)),
            (11, container["name"] + ".log"),
            (15, message((2, context))),
        )
        answer = kubelet.ask("CreateContainer", (1, sandbox), (2, config), (3, sandbox_config))
        containers[container["name"]] = answer[1].decode()
        kubelet.ask("StartContainer", (1, containers[container["name"]]))
    print("ready", flush=True)
    for line in sys.stdin:
        verb, name, *rest = line.split() + [""]
        if verb == "end":
            break
        if verb == "exec":
            answer = kubelet.ask("ExecSync", (1, containers[name]), (2, rest[:-1]), (3, 20))
            said = " ".join((answer.get(1, b"") + answer.get(2, b"")).decode().split())
            print(said, answer.get(3, 0), sep="|", flush=True)
        elif verb == "log":
            with open(os.path.join(logs, name + ".log")) as file:
                print(file.readline().strip(), flush=True)
        else:
            answer = kubelet.ask("ContainerStatus", (1, containers[name]))
            print(STATES[parsed(answer[1]).get(3, 0)], flush=True)
    for container in containers.values():
        kubelet.ask("StopContainer", (1, container), (2, 0))
        kubelet.ask("RemoveContainer", (1, container))
    kubelet.ask("StopPodSandbox", (1, sandbox))
    kubelet.ask("RemovePodSandbox", (1, sandbox))
    print("gone", flush=True)


main()
