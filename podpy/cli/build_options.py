"""The options of ``build``: one per field of ``BuildOptions``, docker's and podman's.

A table, as for ``run``: :func:`parameters` makes the signature Typer reads, and
defaults are those of the record.  A metavar that begins with ``[=`` is of an
option whose value may be left out (``--pull``).
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from typer import Argument, Option

from podpy.cli import complete
from podpy.engine.build_options import BuildOptions

# field: (names, metavar, help); a switch has no metavar
_OPTIONS: dict[str, tuple[str, str, str]] = {
    "file": ("--file -f", "FILE|URL|-", "Dockerfile; several are read as one."),
    "target": ("--target", "STAGE", "Build this stage and what it needs."),
    "build_arg": ("--build-arg", "NAME[=VALUE]", "Set an ARG, or pass on the caller's variable."),
    "build_arg_file": ("--build-arg-file", "FILE", "Read build arguments from a file."),
    "build_context": ("--build-context", "NAME=PLACE", "Another context: a directory, URL, image."),
    "ignorefile": ("--ignorefile", "FILE", "Use this ignore file and no other."),
    "from_": ("--from", "IMAGE", "Replace the image of the first FROM."),
    "platform": ("--platform", "OS/ARCH[,...]", "Build for these platforms."),
    "os": ("--os", "OS", "Build for this operating system."),
    "arch": ("--arch", "ARCH", "Build for this architecture."),
    "variant": ("--variant", "VARIANT", "Build for this variant of it."),
    "all_platforms": ("--all-platforms", "", "Not possible: name them with --platform."),
    "skip_unused_stages": ("--skip-unused-stages", "", "Leave out unneeded stages: by default."),
    "jobs": ("--jobs", "N", "Steps that may run at once (default: one per processor)."),
    "cpp_flag": ("--cpp-flag", "FLAG", "Flag for cpp(1), which reads Dockerfiles named *.in."),
    "call": ("--call", "METHOD", "Instead of building: check, outline, targets."),
    "check": ("--check", "", "Look for mistakes in the Dockerfile and build nothing."),
    "tag": ("--tag -t", "NAME[:TAG]", "Name of the image."),
    "manifest": ("--manifest", "NAME", "Add it to a list of images, one for each platform."),
    "label": ("--label", "KEY[=VALUE]", "Label the image."),
    "layer_label": ("--layer-label", "KEY[=VALUE]", "Not possible: steps leave no images."),
    "annotation": ("--annotation", "[LEVEL:]KEY=VALUE", "Annotate the image's manifest."),
    "unsetenv": ("--unsetenv", "NAME", "Take a variable out of the image."),
    "unsetlabel": ("--unsetlabel", "KEY", "Take out a label of the base image."),
    "unsetannotation": ("--unsetannotation", "KEY", "Without effect: none is taken over."),
    "inherit_labels": ("--inherit-labels", "", "Take over the base's labels (default: true)."),
    "inherit_annotations": ("--inherit-annotations", "", "Never: =false is what a build does."),
    "identity_label": ("--identity-label", "", "Add a label with podpy's version."),
    "created_annotation": ("--created-annotation", "", "Add an annotation with the time."),
    "env": ("--env", "NAME[=VALUE]", "Set a variable in the image."),
    "format": ("--format", "FORMAT", "Format of the image: oci or docker."),
    "omit_history": ("--omit-history", "", "Leave the history out of the image."),
    "os_feature": ("--os-feature", "FEATURE", "Feature of the system the image requires."),
    "os_version": ("--os-version", "VERSION", "Version of the system the image requires."),
    "squash": ("--squash", "", "Make one layer of all new ones."),
    "squash_all": ("--squash-all", "", "Make one layer of everything, the base included."),
    "timestamp": ("--timestamp", "SECONDS", "Time of all files and of the image."),
    "source_date_epoch": ("--source-date-epoch", "SECONDS", "Time of the image."),
    "rewrite_timestamp": ("--rewrite-timestamp", "", "No file is newer than that time."),
    "compat_volumes": ("--compat-volumes", "", "Not possible: what RUN writes is kept."),
    "save_stages": ("--save-stages", "", "Not possible: --target keeps one stage."),
    "stage_labels": ("--stage-labels", "", "Not possible, as --save-stages."),
    "output": ("--output -o", "DIRECTORY|-|type=...", "Where the result goes."),
    "load": ("--load", "", "Put the image into the store, whatever --output says."),
    "push": ("--push", "", "Push the image to its registry."),
    "iidfile": ("--iidfile", "FILE", "Write the image's id to a file."),
    "iidfile_raw": ("--iidfile-raw", "FILE", "The same without `sha256:`."),
    "metadata_file": ("--metadata-file", "FILE", "Write digests and names to a file, as JSON."),
    "sbom": ("--sbom", "true|false|...", "Attach a list of what is in the image."),
    "provenance": ("--provenance", "true|false|...", "Attach how it was built."),
    "attest": ("--attest", "type=TYPE,...", "The two of before, spelled out."),
    "compress": ("--compress", "", "Of builders that are sent their context: no effect."),
    "disable_compression": ("--disable-compression -D", "", "Store layers as they are: always."),
    "layers": ("--layers", "", "Look up and keep steps in the cache (default: true)."),
    "no_cache": ("--no-cache", "", "Run every step anew."),
    "no_cache_filter": ("--no-cache-filter", "STAGE[,...]", "Run every step of a stage anew."),
    "cache_from": ("--cache-from", "NAME|type=...", "Look for steps there, too."),
    "cache_to": ("--cache-to", "NAME|type=...", "Keep steps there, too."),
    "cache_ttl": ("--cache-ttl", "DURATION", "Use no step older than that."),
    "rm": ("--rm", "", "Remove intermediate containers: there are none."),
    "force_rm": ("--force-rm", "", "The same when the build fails."),
    "pull": ("--pull", "[=POLICY]", "Pull base images: always (alone), missing, newer or never."),
    "authfile": ("--authfile", "FILE", "Credentials for registries."),
    "creds": ("--creds", "USER[:PASSWORD]", "Credentials for the registry."),
    "cert_dir": ("--cert-dir", "DIRECTORY", "Certificates for the registry."),
    "tls_verify": ("--tls-verify", "", "Require HTTPS and valid certificates."),
    "retry": ("--retry", "N", "How often to try again when a registry fails."),
    "retry_delay": ("--retry-delay", "DURATION", "Time between two tries."),
    "secret": ("--secret", "id=ID[,src=FILE]", "Secret for RUN --mount=type=secret."),
    "ssh": ("--ssh", "ID[=SOCKET|KEY,...]", "Agent or keys for RUN --mount=type=ssh."),
    "volume": ("--volume -v", "SOURCE:PATH[:OPTIONS]", "Mount a directory for every RUN."),
    "mount": ("--mount", "type=TYPE,...", "Mount something for every RUN, as RUN --mount does."),
    "device": ("--device", "HOST[:CONTAINER[:rwm]]", "Give every RUN a device."),
    "network": ("--network --net", "MODE", "Network of RUN: default, none, host, …"),
    "add_host": ("--add-host", "NAME:ADDRESS", "Add a line to /etc/hosts."),
    "dns": ("--dns", "ADDRESS", "Name server."),
    "dns_search": ("--dns-search", "DOMAIN", "Search domain."),
    "dns_option": ("--dns-option --dns-opt", "OPTION", "Resolver option."),
    "no_hosts": ("--no-hosts", "", "Leave the image's /etc/hosts as it is."),
    "no_hostname": ("--no-hostname", "", "Leave the image's /etc/hostname as it is."),
    "http_proxy": ("--http-proxy", "", "Pass on proxy variables (default: true)."),
    "stdin": ("--stdin", "", "Give RUN the caller's standard input."),
    "isolation": ("--isolation", "TYPE", "How RUN is isolated: oci or chroot."),
    "cap_add": ("--cap-add", "CAPABILITY", "Add a capability."),
    "cap_drop": ("--cap-drop", "CAPABILITY", "Drop a capability."),
    "security_opt": ("--security-opt", "OPTION", "Security option."),
    "allow": ("--allow", "ENTITLEMENT", "Allow what RUN asks for: network.host or device."),
    "group_add": ("--group-add", "GROUP", "Add a supplementary group."),
    "ulimit": ("--ulimit", "NAME=SOFT[:HARD]", "Set a resource limit."),
    "shm_size": ("--shm-size", "SIZE", "Size of /dev/shm."),
    "memory": ("--memory -m", "SIZE", "Limit memory."),
    "memory_swap": ("--memory-swap", "SIZE", "Limit memory and swap together."),
    "cpu_period": ("--cpu-period", "MICROSECONDS", "Period of --cpu-quota."),
    "cpu_quota": ("--cpu-quota", "MICROSECONDS", "Processor time in each period."),
    "cpu_shares": ("--cpu-shares -c", "N", "Share of the processors when they are busy."),
    "cpuset_cpus": ("--cpuset-cpus", "LIST", "Processors that may be used."),
    "cpuset_mems": ("--cpuset-mems", "LIST", "Memory nodes that may be used."),
    "cgroup_parent": ("--cgroup-parent", "PATH", "Control group to run in."),
    "cgroupns": ("--cgroupns", "MODE", "Control groups: private or host."),
    "ipc": ("--ipc", "MODE", "Shared memory: private or host."),
    "pid": ("--pid", "MODE", "Process ids: private or host."),
    "uts": ("--uts", "MODE", "Host name: private or host."),
    "userns": ("--userns", "MODE", "User namespace: private, host or auto."),
    "userns_uid_map": ("--userns-uid-map", "INSIDE:OUTSIDE:COUNT", "Map user ids."),
    "userns_gid_map": ("--userns-gid-map", "INSIDE:OUTSIDE:COUNT", "Map group ids."),
    "userns_uid_map_user": ("--userns-uid-map-user", "NAME", "Map this name's user ids."),
    "userns_gid_map_group": ("--userns-gid-map-group", "NAME", "Map this name's group ids."),
    "builder": ("--builder", "NAME", "The builder: default is the only one."),
    "runtime": ("--runtime", "PATH", "Not possible: podpy runs steps itself."),
    "runtime_flag": ("--runtime-flag", "FLAG", "Not possible: podpy runs steps itself."),
    "hooks_dir": ("--hooks-dir", "DIRECTORY", "Not possible: there is no runtime to hook."),
    "sign_by": ("--sign-by", "FINGERPRINT", "Not possible: podpy signs nothing."),
    "decryption_key": ("--decryption-key", "KEY", "Not possible: no encrypted images."),
    "cw": ("--cw", "OPTIONS", "Not possible: no images for confidential computing."),
    "source_policy_file": ("--source-policy-file", "FILE", "Not possible: no source policies."),
    "disable_content_trust": ("--disable-content-trust", "", "No docker content trust: always."),
    "sbom_scanner_image": ("--sbom-scanner-image", "IMAGE", "Not possible, as --sbom."),
    "sbom_scanner_command": ("--sbom-scanner-command", "COMMAND", "Not possible, as --sbom."),
    "sbom_merge_strategy": ("--sbom-merge-strategy", "METHOD", "Not possible, as --sbom."),
    "sbom_output": ("--sbom-output", "FILE", "Not possible, as --sbom."),
    "sbom_purl_output": ("--sbom-purl-output", "FILE", "Not possible, as --sbom."),
    "sbom_image_output": ("--sbom-image-output", "PATH", "Not possible, as --sbom."),
    "sbom_image_purl_output": ("--sbom-image-purl-output", "PATH", "Not possible, as --sbom."),
    "quiet": ("--quiet -q", "", "Print nothing but the image's id."),
    "progress": ("--progress", "MODE", "auto, plain, tty, rawjson, quiet or none."),
    "logfile": ("--logfile", "FILE", "Write the progress to a file."),
    "log_split_by_platform": ("--logsplit", "", "With --logfile: a file for each platform."),
}  # fmt: skip

_TYPES = {bool: bool, str: str, tuple: tuple[str, ...]}
_COMPLETED = {"network": complete.modes, "from_": complete.images, "tag": complete.images}
_HIDDEN_HELP = "Not possible"


def parameters() -> list[inspect.Parameter]:
    """The signature of ``build``."""
    argument = Argument(metavar="PATH|URL|-", hidden=True)
    chosen = [_parameter("context", Annotated[str, argument], "")]
    for field in BuildOptions._fields:  # type: ignore[attr-defined]
        if field != "context":
            chosen.append(_option(field))
    return chosen


def _option(field: str) -> inspect.Parameter:
    names, metavar, text = _OPTIONS[field]
    default = BuildOptions._defaults[field]  # type: ignore[attr-defined]
    kind: Any = bool | None if default is None else _TYPES[type(default)]
    option = Option(
        *names.split(), metavar=metavar or None, help=text, show_default=False,
        autocompletion=_COMPLETED.get(field), hidden=text.startswith(_HIDDEN_HELP),
    )  # fmt: skip
    return _parameter(field, Annotated[kind, option], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
