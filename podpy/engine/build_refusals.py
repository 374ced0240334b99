"""What ``build`` cannot do, said before anything is done: the option, why, and what to do.

An option that is not here and not refused by who reads it is honoured.  Some
ask for what is always so (``--rm``, ``--compress``, ``--disable-compression``): only
their opposite is refused.
"""

from __future__ import annotations

from podpy.engine.build_request import listed
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.engine.build_options import BuildOptions

_NO_RUNTIME = ("podpy runs steps itself, without an OCI runtime", "")
_NO_SCANNER = (
    "podpy runs no scanners",
    "scan the finished image with the tool of your choice",
)
_NO_IMAGES = (
    "steps and stages leave no images, only layers in the cache",
    "--target STAGE --tag NAME keeps the image of a stage",
)
# field: (why, what to do); refused when it is given at all
_NEVER = {
    "sign_by": ("podpy signs no images", "sign the pushed image, for example with cosign"),
    "decryption_key": ("podpy reads no encrypted images", ""),
    "cw": ("podpy makes no images for confidential computing", ""),
    "source_policy_file": ("podpy knows no source policies", "pin images by digest in FROM"),
    "runtime": _NO_RUNTIME,
    "runtime_flag": _NO_RUNTIME,
    "hooks_dir": ("hooks are an OCI runtime's, and podpy runs steps itself", ""),
    "all_platforms": (
        "podpy does not ask registries what a base image is there for",
        "name the platforms: --platform linux/amd64,linux/arm64",
    ),
    "compat_volumes": ("podpy keeps what RUN writes below a VOLUME, as docker does", ""),
    "layer_label": _NO_IMAGES,
    "save_stages": _NO_IMAGES,
    "stage_labels": _NO_IMAGES,
    "sbom_scanner_image": _NO_SCANNER,
    "sbom_scanner_command": _NO_SCANNER,
    "sbom_merge_strategy": _NO_SCANNER,
    "sbom_output": _NO_SCANNER,
    "sbom_purl_output": _NO_SCANNER,
    "sbom_image_output": _NO_SCANNER,
    "sbom_image_purl_output": _NO_SCANNER,
}
# switch: (the value that is refused, why, what to do)
_SWITCHES = {
    "rm": (False, "steps run in no intermediate containers that could be kept",
           "--target STAGE --tag NAME keeps the image of a stage"),
    "inherit_annotations": (True, "the annotations of a base image are said of that image",
                            "name those you want with --annotation"),
    "disable_compression": (False, "the store keeps layers uncompressed",
                            "they are compressed when they are pushed"),
    "disable_content_trust": (False, "podpy does not verify docker's content trust",
                              "refer to images by digest"),
}  # fmt: skip
# What is always so, whatever is said: podpy makes no intermediate containers and sends no context
# to anybody, a context of its own is not compressed; files are as old as --source-date-epoch says,
# none is newer; annotations of base images are not taken over.
ALWAYS = ("compress", "force_rm", "rewrite_timestamp", "unsetannotation")
_BUILDERS = ("", "default", "podpy")
_GRANTED = ("network.host", "device")


def check(options: BuildOptions) -> None:
    """Raise :class:`UsageError` for the first thing that was asked for and cannot be had."""
    for field, (why, remedy) in _NEVER.items():
        if getattr(options, field):
            raise _refused(_flag(field), why, remedy)
    for field, (refused, why, remedy) in _SWITCHES.items():
        if getattr(options, field) is refused:
            raise _refused(f"{_flag(field)}={str(refused).lower()}", why, remedy)
    check_builder(options.builder)
    _check_entitlements(options)
    _check_conflicts(options)


def check_builder(name: str) -> None:
    if name not in _BUILDERS:
        raise _refused(f"--builder {name}", "there is one builder, default", "")


def _flag(field: str) -> str:
    return "--" + field.strip("_").replace("_", "-")


def _refused(what: str, why: str, remedy: str) -> UsageError:
    return UsageError(f"{what}: {why}", hint=remedy)


def _check_entitlements(options: BuildOptions) -> None:
    for word in listed(options.allow):
        name = word.partition("=")[0]
        if name == "security.insecure":
            raise _refused(
                f"--allow {word}",
                "a step never runs without its isolation",
                "give it what it needs: --cap-add, --device, --security-opt",
            )
        if name not in _GRANTED:
            raise _refused(f"--allow {word}", "no such entitlement", "network.host or device")


def _check_conflicts(options: BuildOptions) -> None:
    if options.squash and options.squash_all:
        raise UsageError("--squash and --squash-all: only one can be given")
    if options.no_hosts and options.add_host:
        raise UsageError("--no-hosts and --add-host: only one can be given")
    if options.log_split_by_platform and not options.logfile:
        raise UsageError("--logsplit: needs --logfile")
    if options.quiet and options.progress not in ("", "auto", "quiet", "none"):
        raise UsageError(f"--quiet and --progress {options.progress}: only one can be given")
    if options.layers is False and (options.cache_from or options.cache_to):
        raise UsageError("--cache-from and --cache-to: need --layers")
    if options.stdin and "-" in (options.context, *options.file):
        raise UsageError("--stdin: standard input is read for the build itself already")
    if options.rewrite_timestamp and not options.source_date_epoch:
        raise UsageError("--rewrite-timestamp: needs --source-date-epoch")
    if options.network == "none" and (options.dns or options.dns_search or options.dns_option):
        raise UsageError("--dns: there is none with --network none")
