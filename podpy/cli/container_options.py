"""The options of ``run`` and ``create``: one per field of ``ContainerOptions``.

``run`` and ``create`` share a hundred options, so they are a table and not two
signatures: :func:`parameters` makes the signature Typer reads.  Defaults are
those of the record.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from typer import Argument, Option

from podpy.cli import complete
from podpy.engine.options import ContainerOptions

# field: (names, metavar, help); a switch has no metavar
_OPTIONS: dict[str, tuple[str, str, str]] = {
    "name": ("--name", "NAME", "Name of the container."),
    "replace": ("--replace", "", "Remove a container of that name first."),
    "detach": ("--detach -d", "", "Run in the background and print the container's id."),
    "interactive": ("--interactive -i", "", "Keep standard input open."),
    "tty": ("--tty -t", "", "Give the container a terminal."),
    "attach": ("--attach -a", "STREAM", "Attach to stdin, stdout or stderr only."),
    "detach_keys": ("--detach-keys", "KEYS", "Keys that detach from the container."),
    "sig_proxy": ("--sig-proxy", "", "Pass signals on to the process (default: true)."),
    "rm": ("--rm", "", "Remove the container when it exits."),
    "rmi": ("--rmi", "", "Remove the image too, unless others use it."),
    "cidfile": ("--cidfile", "FILE", "Write the container's id to a file."),
    "pidfile": ("--pidfile", "FILE", "Write the process's id to a file."),
    "timeout": ("--timeout", "SECONDS", "Kill the container after that time."),
    "preserve_fds": ("--preserve-fds", "N", "Pass on N descriptors besides the first three."),
    "preserve_fd": ("--preserve-fd", "FD[,FD...]", "Pass on these descriptors."),
    "rootfs": ("--rootfs", "", "IMAGE is a directory with the root; DIRECTORY:O keeps it."),
    "pull": ("--pull", "POLICY", "Pull the image: always, missing, newer or never."),
    "platform": ("--platform", "OS/ARCH[/VARIANT]", "Take the image for this platform."),
    "arch": ("--arch", "ARCH", "Take the image for this architecture."),
    "os": ("--os", "OS", "Take the image for this operating system."),
    "variant": ("--variant", "VARIANT", "Take the image for this variant."),
    "quiet": ("--quiet -q", "", "Print no progress of the pull."),
    "authfile": ("--authfile", "FILE", "Credentials for registries."),
    "creds": ("--creds", "USER[:PASSWORD]", "Credentials for the registry."),
    "cert_dir": ("--cert-dir", "DIRECTORY", "Certificates for the registry."),
    "tls_verify": ("--tls-verify", "", "Require HTTPS and valid certificates."),
    "entrypoint": ("--entrypoint", "COMMAND", "Replace the image's entry point."),
    "env": ("--env -e", "NAME[=VALUE]", "Set an environment variable, or pass on the caller's."),
    "env_file": ("--env-file", "FILE", "Read environment variables from a file."),
    "env_host": ("--env-host", "", "Pass on the caller's whole environment."),
    "unsetenv": ("--unsetenv", "NAME", "Leave out a variable of the image."),
    "unsetenv_all": ("--unsetenv-all", "", "Leave out all variables of the image."),
    "http_proxy": ("--http-proxy", "", "Pass on proxy variables (default: true)."),
    "user": ("--user -u", "USER[:GROUP]", "Run as this user."),
    "group_add": ("--group-add", "GROUP", "Add a supplementary group."),
    "workdir": ("--workdir -w", "DIRECTORY", "Run in this directory."),
    "init": ("--init", "", "Run an init that reaps orphans as process 1."),
    "umask": ("--umask", "MODE", "File mode creation mask."),
    "tz": ("--tz", "ZONE", "Time zone, `local` for the host's."),
    "stop_signal": ("--stop-signal", "SIGNAL", "Signal that asks it to stop."),
    "stop_timeout": ("--stop-timeout", "SECONDS", "Time it has to stop before it is killed."),
    "ulimit": ("--ulimit", "NAME=SOFT[:HARD]", "Set a resource limit."),
    "oom_score_adj": ("--oom-score-adj", "NUMBER", "How likely it is to be killed for memory."),
    "label": ("--label -l", "KEY=VALUE", "Label the container."),
    "label_file": ("--label-file", "FILE", "Read labels from a file."),
    "annotation": ("--annotation", "KEY=VALUE", "Annotate the container."),
    "volume": ("--volume -v", "[SOURCE:]PATH[:OPTIONS]", "Mount a directory or a volume."),
    "mount": ("--mount", "type=TYPE,...", "Mount something, spelled out."),
    "tmpfs": ("--tmpfs", "PATH[:OPTIONS]", "Mount an empty file system in memory."),
    "volumes_from": ("--volumes-from", "CONTAINER", "Mount the volumes of another container."),
    "image_volume": ("--image-volume", "HOW", "The image's volumes: anonymous, tmpfs or ignore."),
    "device": ("--device", "HOST[:CONTAINER[:rwm]]", "Give the container a device."),
    "read_only": ("--read-only", "", "Mount the root file system read-only."),
    "read_only_tmpfs": ("--read-only-tmpfs", "", "With --read-only: writable /tmp and /run."),
    "shm_size": ("--shm-size", "SIZE", "Size of /dev/shm."),
    "network": ("--network --net", "NETWORK", "Networks to join, or a mode: none, host, …"),
    "network_alias": ("--network-alias --net-alias", "NAME", "Another name on its networks."),
    "ip": ("--ip", "ADDRESS", "IPv4 address on the first network."),
    "ip6": ("--ip6", "ADDRESS", "IPv6 address on the first network."),
    "mac_address": ("--mac-address", "MAC", "MAC address on the first network."),
    "link": ("--link", "CONTAINER[:ALIAS]", "Reach another container by this name."),
    "egress": ("--egress", "none|LIST", "Reach nothing outside but these hosts and ranges."),
    "publish": ("--publish -p", "[[IP:]HOST:]PORT[/PROTOCOL]", "Publish a port."),
    "publish_all": ("--publish-all -P", "", "Publish all exposed ports on random ones."),
    "expose": ("--expose", "PORT[/PROTOCOL]", "Expose a port."),
    "hostname": ("--hostname -h", "NAME", "Host name of the container."),
    "no_hostname": ("--no-hostname", "", "Leave the image's /etc/hostname as it is."),
    "domainname": ("--domainname", "NAME", "NIS domain name of the container."),
    "dns": ("--dns", "ADDRESS", "Name server."),
    "dns_search": ("--dns-search", "DOMAIN", "Search domain."),
    "dns_option": ("--dns-option --dns-opt", "OPTION", "Resolver option."),
    "add_host": ("--add-host", "NAME:ADDRESS", "Add a line to /etc/hosts."),
    "no_hosts": ("--no-hosts", "", "Do not make /etc/hosts."),
    "hosts_file": ("--hosts-file", "FILE", "What /etc/hosts begins with: a file, image or none."),
    "link_local_ip": ("--link-local-ip", "ADDRESS", "Not possible: the kernel chooses these."),
    "userns": ("--userns", "MODE", "User namespace: host, keep-id, nomap, auto, container:NAME."),
    "uidmap": ("--uidmap", "INSIDE:OUTSIDE:COUNT", "Map user ids."),
    "gidmap": ("--gidmap", "INSIDE:OUTSIDE:COUNT", "Map group ids."),
    "subuidname": ("--subuidname", "NAME", "Map the user ids /etc/subuid gives to this name."),
    "subgidname": ("--subgidname", "NAME", "Map the group ids /etc/subgid gives to this name."),
    "pid": ("--pid", "MODE", "Process ids: private, host or container:NAME."),
    "ipc": ("--ipc", "MODE", "Shared memory: private, host, shareable or container:NAME."),
    "uts": ("--uts", "MODE", "Host name: private, host or container:NAME."),
    "cgroupns": ("--cgroupns", "MODE", "Control groups: private, host or container:NAME."),
    "cgroup_parent": ("--cgroup-parent", "PATH", "Control group to live in."),
    "privileged": ("--privileged", "", "Drop most of the isolation."),
    "cap_add": ("--cap-add", "CAPABILITY", "Add a capability."),
    "cap_drop": ("--cap-drop", "CAPABILITY", "Drop a capability."),
    "security_opt": ("--security-opt", "OPTION", "Security option."),
    "sysctl": ("--sysctl", "NAME=VALUE", "Set a kernel parameter of its namespaces."),
    "log_driver": ("--log-driver", "DRIVER", "k8s-file, json-file, journald, none, passthrough."),
    "log_opt": ("--log-opt", "KEY=VALUE", "Option of the log driver."),
}  # fmt: skip

_TYPES = {bool: bool, str: str, tuple: tuple[str, ...], type(None): str}
_RUN_ONLY = ("detach", "detach_keys", "sig_proxy", "rmi", "preserve_fds", "preserve_fd")
_TRISTATE = ("tls_verify",)
_COMPLETED = {"network": complete.modes, "link": complete.containers}


def parameters(*, running: bool) -> list[inspect.Parameter]:
    """The signature of ``run`` (or of ``create``, which lacks what needs a running container)."""
    chosen = [
        _argument("image", str, "IMAGE"),
        _argument("command", tuple[str, ...], "COMMAND [ARG...]"),
    ]
    for field in ContainerOptions._fields:  # type: ignore[attr-defined]
        if field in ("image", "command") or (field in _RUN_ONLY and not running):
            continue
        chosen.append(_option(field))
    return chosen


def _argument(name: str, kind: Any, metavar: str) -> inspect.Parameter:
    completion = complete.images if name == "image" else None
    declared = Annotated[kind, Argument(metavar=metavar, autocompletion=completion, hidden=True)]
    default = inspect.Parameter.empty if name == "image" else ()
    return _parameter(name, declared, default)


def _option(field: str) -> inspect.Parameter:
    names, metavar, text = _OPTIONS[field]
    default = ContainerOptions._defaults[field]  # type: ignore[attr-defined]
    kind: Any = bool | None if field in _TRISTATE else _TYPES[type(default)]
    option = Option(
        *names.split(), metavar=metavar or None, help=text, show_default=False,
        autocompletion=_COMPLETED.get(field),
    )  # fmt: skip
    return _parameter(field, Annotated[kind, option], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
