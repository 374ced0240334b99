"""The options and arguments of every command but ``run`` and ``create``, as Typer reads them.

Adapters name these in their signatures.  They are imported only by type
checkers and by the Typer application (:mod:`podpy.cli.app`): at run time a
plain command line is parsed from the compiled table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from typer import Argument, Option

from podpy.cli import complete

# --- arguments ---------------------------------------------------------------


def _argument(metavar: str, completion: Callable[[str], list[str]] | None = None) -> Any:
    """An argument; the usage line says all there is to say about it."""
    return Argument(metavar=metavar, autocompletion=completion, hidden=True)


# A name without default in an adapter's signature is required, one with a default is not.
Container = Annotated[str, _argument("CONTAINER", complete.containers)]
Containers = Annotated[tuple[str, ...], _argument("CONTAINER...", complete.containers)]
ContainerName = Annotated[str, _argument("NAME")]
Command = Annotated[tuple[str, ...], _argument("COMMAND [ARG...]")]
TopColumns = Annotated[tuple[str, ...], _argument("COLUMN...")]
ContainerPort = Annotated[str, _argument("PORT[/PROTOCOL]")]
Image = Annotated[str, _argument("IMAGE", complete.images)]
Images = Annotated[tuple[str, ...], _argument("IMAGE...", complete.images)]
Names = Annotated[tuple[str, ...], _argument("NAME...")]
References = Annotated[tuple[str, ...], _argument("REFERENCE...")]
Destination = Annotated[str, _argument("DESTINATION")]
ArchivePath = Annotated[str, _argument("PATH|URL|-")]
NewReference = Annotated[str, _argument("REFERENCE")]
Registry = Annotated[str, _argument("REGISTRY")]
Volume = Annotated[str, _argument("VOLUME", complete.volumes)]
Volumes = Annotated[tuple[str, ...], _argument("VOLUME...", complete.volumes)]
NewVolume = Annotated[str, _argument("NAME")]
Network = Annotated[str, _argument("NETWORK", complete.networks)]
Networks = Annotated[tuple[str, ...], _argument("NETWORK...", complete.networks)]
NewNetwork = Annotated[str, _argument("NAME")]
Objects = Annotated[tuple[str, ...], _argument("NAME...", complete.objects)]

# --- how results are shown ---------------------------------------------------

Format = Annotated[
    str,
    Option("--format", metavar="TEMPLATE", help="Print as `json`, `table ...` or a Go template."),
]
InspectFormat = Annotated[
    str, Option("--format", "-f", metavar="TEMPLATE", help="Print as `json` or by a Go template.")
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print ids or names only.")]
Silent = Annotated[bool, Option("--quiet", "-q", help="Print no progress.")]
NoTrunc = Annotated[bool, Option("--no-trunc", help="Do not shorten ids and commands.")]
NoHeading = Annotated[bool, Option("--noheading", help="Print no column headings.")]
NoHeadingShort = Annotated[bool, Option("--noheading", "-n", help="Print no column headings.")]
Filters = Annotated[
    tuple[str, ...],
    Option("--filter", "-f", metavar="KEY=VALUE", help="Only what meets this condition."),
]
LongFilters = Annotated[
    tuple[str, ...], Option("--filter", metavar="KEY=VALUE", help="Only what meets this condition.")
]
Size = Annotated[bool, Option("--size", "-s", help="Show how much disk space is used.")]
Digests = Annotated[bool, Option("--digests", help="Show digests.")]
Human = Annotated[bool, Option("--human", "-H", help="Print sizes and dates for people.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Print more.")]
SortContainers = Annotated[
    str,
    Option(
        "--sort",
        metavar="KEY",
        help="Order: command, created, id, image, names, runningfor, size, status.",
    ),
]
SortImages = Annotated[
    str, Option("--sort", metavar="KEY", help="Order: created, id, repository, size, tag.")
]

# --- which objects -----------------------------------------------------------

ShowAll = Annotated[bool, Option("--all", "-a", help="Show all, not only those running.")]
ShowAllImages = Annotated[bool, Option("--all", "-a", help="Show intermediate images too.")]
All = Annotated[bool, Option("--all", "-a", help="Apply to all of them.")]
AllLong = Annotated[bool, Option("--all", help="Apply to all of them.")]
AllUnused = Annotated[
    bool, Option("--all", "-a", help="Remove all that are unused, not only dangling ones.")
]
Last = Annotated[
    int,
    Option(
        "--last",
        "-n",
        metavar="N",
        help="Show the last N containers made, in any state.",
        show_default=False,
    ),
]
Latest = Annotated[bool, Option("--latest", "-l", help="Apply to the container made last.")]
ShowLatest = Annotated[
    bool, Option("--latest", "-l", help="Show the container made last, in any state.")
]
Ignore = Annotated[bool, Option("--ignore", "-i", help="No error for what does not exist.")]
IgnoreLong = Annotated[bool, Option("--ignore", help="No error for what does not exist.")]
CidFiles = Annotated[
    tuple[str, ...],
    Option("--cidfile", metavar="FILE", help="Read the container's id from a file."),
]
Kind = Annotated[
    str,
    Option(
        "--type",
        "-t",
        metavar="TYPE",
        help="Look for this kind only: container, image, network or volume.",
    ),
]

# --- life and death of containers --------------------------------------------

StopSeconds = Annotated[
    str,
    Option(
        "--time",
        "-t",
        "--timeout",
        metavar="SECONDS",
        help="Kill what has not stopped by then (-1: never).",
    ),
]
StopSignal = Annotated[
    str,
    Option(
        "--signal", "-s", metavar="SIGNAL", help="Signal to send instead of the container's own."
    ),
]
KillSignal = Annotated[str, Option("--signal", "-s", metavar="SIGNAL", help="Signal to send.")]
Force = Annotated[bool, Option("--force", "-f", help="Stop or untag first what is in use.")]
NoQuestion = Annotated[bool, Option("--force", "-f", help="Do not ask.")]
RemoveVolumes = Annotated[bool, Option("--volumes", "-v", help="Remove anonymous volumes too.")]
Depend = Annotated[bool, Option("--depend", help="Remove the containers that depend on it too.")]
OnlyRunning = Annotated[bool, Option("--running", help="Only those that run.")]
Condition = Annotated[
    tuple[str, ...],
    Option("--condition", metavar="STATE", help="Wait for this state (default: stopped)."),
]
Interval = Annotated[str, Option("--interval", "-i", metavar="TIME", help="How often to look.")]

# --- streams -----------------------------------------------------------------

DetachKeys = Annotated[
    str | None, Option("--detach-keys", metavar="KEYS", help="Keys that detach from the container.")
]
NoStdin = Annotated[bool, Option("--no-stdin", help="Do not attach standard input.")]
SigProxy = Annotated[
    bool, Option("--sig-proxy", help="Pass signals on to the process (default: true).")
]
Attach = Annotated[bool, Option("--attach", "-a", help="Attach to output and exit code.")]
Interactive = Annotated[bool, Option("--interactive", "-i", help="Attach standard input.")]
Detach = Annotated[bool, Option("--detach", "-d", help="Run in the background.")]
Tty = Annotated[bool, Option("--tty", "-t", help="Give the process a terminal.")]
Env = Annotated[
    tuple[str, ...],
    Option("--env", "-e", metavar="NAME=VALUE", help="Set an environment variable."),
]
EnvFiles = Annotated[
    tuple[str, ...],
    Option("--env-file", metavar="FILE", help="Read environment variables from a file."),
]
User = Annotated[str, Option("--user", "-u", metavar="USER[:GROUP]", help="Run as this user.")]
PreserveFds = Annotated[
    str,
    Option("--preserve-fds", metavar="N", help="Pass on N descriptors besides the first three."),
]
PreserveFd = Annotated[
    tuple[str, ...],
    Option("--preserve-fd", metavar="FD[,FD...]", help="Pass on these descriptors."),
]
Color = Annotated[
    bool, Option("--color", help="Print each container's lines in a colour of its own.")
]
WorkDir = Annotated[
    str, Option("--workdir", "-w", metavar="DIRECTORY", help="Run in this directory.")
]
Privileged = Annotated[bool, Option("--privileged", help="Give the process all capabilities.")]
Follow = Annotated[bool, Option("--follow", "-f", help="Go on printing what comes.")]
Since = Annotated[
    str, Option("--since", metavar="TIME", help="Only lines since then (date or 10m).")
]
Until = Annotated[
    str, Option("--until", metavar="TIME", help="Only lines until then (date or 10m).")
]
TailShort = Annotated[str, Option("--tail", "-n", metavar="N", help="Only the last N lines.")]
Timestamps = Annotated[bool, Option("--timestamps", "-t", help="Print the time of each line.")]
ShowNames = Annotated[bool, Option("--names", help="Print the container's name before each line.")]

# --- registries and archives -------------------------------------------------

Platform = Annotated[
    str, Option("--platform", metavar="OS/ARCH[/VARIANT]", help="Take the image for this platform.")
]
Arch = Annotated[
    str, Option("--arch", metavar="ARCH", help="Take the image for this architecture.")
]
Os = Annotated[str, Option("--os", metavar="OS", help="Take the image for this operating system.")]
Variant = Annotated[
    str, Option("--variant", metavar="VARIANT", help="Take the image for this variant.")
]
AllTags = Annotated[bool, Option("--all-tags", "-a", help="Take all tags of the repository.")]
Policy = Annotated[
    str, Option("--policy", metavar="POLICY", help="Pull: always, missing, newer or never.")
]
AuthFile = Annotated[
    str, Option("--authfile", metavar="FILE", help="Read and write credentials here.")
]
CertDir = Annotated[
    str, Option("--cert-dir", metavar="DIRECTORY", help="Certificates for the registry.")
]
Creds = Annotated[
    str, Option("--creds", metavar="USER[:PASSWORD]", help="Credentials for the registry.")
]
TlsVerify = Annotated[
    bool | None, Option("--tls-verify", help="Require HTTPS and valid certificates.")
]
Retry = Annotated[str, Option("--retry", metavar="N", help="How often to try again.")]
RetryDelay = Annotated[
    str, Option("--retry-delay", metavar="TIME", help="How long to wait before trying again.")
]
DigestFile = Annotated[
    str, Option("--digestfile", metavar="FILE", help="Write the manifest's digest to a file.")
]
Input = Annotated[
    str, Option("--input", "-i", metavar="FILE", help="Read from a file, not standard input.")
]
Output = Annotated[
    str, Option("--output", "-o", metavar="FILE", help="Write to a file, not standard output.")
]
ArchiveFormat = Annotated[
    str,
    Option(
        "--format", metavar="FORMAT", help="docker-archive, oci-archive, oci-dir or docker-dir."
    ),
]
Change = Annotated[
    tuple[str, ...],
    Option("--change", "-c", metavar="INSTRUCTION", help="Apply a Containerfile instruction."),
]
Message = Annotated[
    str, Option("--message", "-m", metavar="TEXT", help="Note it in the image's history.")
]
NoPrune = Annotated[bool, Option("--no-prune", help="Keep untagged parents.")]
Username = Annotated[str, Option("--username", "-u", metavar="NAME", help="User name.")]
Password = Annotated[str, Option("--password", "-p", metavar="PASSWORD", help="Password or token.")]
PasswordStdin = Annotated[
    bool, Option("--password-stdin", help="Read the password from standard input.")
]
GetLogin = Annotated[bool, Option("--get-login", help="Print the user logged in.")]
AllRegistries = Annotated[
    bool, Option("--all", "-a", help="Forget the credentials of all registries.")
]

# --- volumes -----------------------------------------------------------------

VolumeLabels = Annotated[
    tuple[str, ...], Option("--label", "-l", metavar="KEY=VALUE", help="Label the volume.")
]
Driver = Annotated[str, Option("--driver", "-d", metavar="DRIVER", help="Volume driver: local.")]
VolumeOptions = Annotated[
    tuple[str, ...], Option("--opt", "-o", metavar="KEY=VALUE", help="Option of the driver.")
]
IgnoreExisting = Annotated[bool, Option("--ignore", help="No error when it exists.")]

# --- builds ------------------------------------------------------------------

AllCache = Annotated[bool, Option("--all", "-a", help="Also what images share with the cache.")]
KeepStorage = Annotated[
    str,
    Option(
        "--keep-storage", "--reserved-space", metavar="SIZE", help="Keep that much of the newest."
    ),
]
VerboseLong = Annotated[bool, Option("--verbose", help="Print more about each.")]
Builder = Annotated[
    str, Option("--builder", metavar="NAME", help="The builder: default is the only one.")
]

# --- networks ----------------------------------------------------------------

NetworkDriver = Annotated[str, Option("--driver", "-d", metavar="DRIVER", help="Driver: bridge.")]
Subnets = Annotated[
    tuple[str, ...],
    Option("--subnet", metavar="CIDR", help="Subnet; without one, podpy finds a free one."),
]
Gateways = Annotated[
    tuple[str, ...],
    Option("--gateway", metavar="ADDRESS", help="Gateway of the subnet (default: its first)."),
]
IpRanges = Annotated[
    tuple[str, ...],
    Option("--ip-range", metavar="CIDR|FIRST-LAST", help="Give containers addresses of these."),
]
AuxAddresses = Annotated[
    tuple[str, ...],
    Option("--aux-address", metavar="NAME=ADDRESS", help="Never give this one to a container."),
]
Ipv4 = Annotated[bool, Option("--ipv4", help="Give it an IPv4 subnet (default: true).")]
Ipv6 = Annotated[bool, Option("--ipv6", help="Give it an IPv6 subnet as well.")]
Internal = Annotated[bool, Option("--internal", help="No way out of the network, and none in.")]
DisableDns = Annotated[bool, Option("--disable-dns", help="Do not resolve containers' names.")]
NetworkDns = Annotated[
    tuple[str, ...],
    Option("--dns", metavar="ADDRESS", help="Name server to ask instead of the host's."),
]
Routes = Annotated[
    tuple[str, ...],
    Option("--route", metavar="CIDR,GATEWAY", help="Route that the containers get."),
]
InterfaceName = Annotated[
    str, Option("--interface-name", metavar="NAME", help="Name of the bridge (default: podpyN).")
]
NetworkLabels = Annotated[
    tuple[str, ...], Option("--label", metavar="KEY=VALUE", help="Label the network.")
]
NetworkOptions = Annotated[
    tuple[str, ...],
    Option(
        "--opt",
        "-o",
        metavar="KEY=VALUE",
        help="mtu=, isolate=, host_loopback=, com.docker.network...=",
    ),
]
IpamDriver = Annotated[
    str, Option("--ipam-driver", metavar="DRIVER", help="Address management: default.")
]
IpamOptions = Annotated[
    tuple[str, ...],
    Option("--ipam-opt", metavar="KEY=VALUE", help="Option of the address management: none."),
]
Attachable = Annotated[
    bool, Option("--attachable", help="Let containers be connected by hand: always true.")
]
NetworkScope = Annotated[str, Option("--scope", metavar="SCOPE", help="Scope: local.")]
ConfigFrom = Annotated[
    str, Option("--config-from", metavar="NETWORK", help="Of swarms: refused.", hidden=True)
]
ConfigOnly = Annotated[bool, Option("--config-only", help="Of swarms: refused.", hidden=True)]
Ingress = Annotated[bool, Option("--ingress", help="Of swarms: refused.", hidden=True)]
ForceNetwork = Annotated[
    bool,
    Option("--force", "-f", help="Remove the containers on it, too; no error for a missing one."),
]
ForceDisconnect = Annotated[
    bool, Option("--force", "-f", help="Whatever the network supervisor says.")
]
Aliases = Annotated[
    tuple[str, ...],
    Option("--alias", metavar="NAME", help="Another name of the container on this network."),
]
Ip = Annotated[str, Option("--ip", metavar="ADDRESS", help="IPv4 address on this network.")]
Ip6 = Annotated[str, Option("--ip6", metavar="ADDRESS", help="IPv6 address on this network.")]
MacAddress = Annotated[str, Option("--mac-address", metavar="MAC", help="MAC address.")]
ConnectLinks = Annotated[
    tuple[str, ...],
    Option("--link", metavar="CONTAINER", help="Of `run` alone: refused.", hidden=True),
]
LinkLocalIps = Annotated[
    tuple[str, ...],
    Option("--link-local-ip", metavar="ADDRESS", help="Refused.", hidden=True),
]
EndpointOptions = Annotated[
    tuple[str, ...],
    Option(
        "--driver-opt",
        metavar="KEY=VALUE",
        help="com.docker.network.endpoint.ifname=NAME: the interface's name.",
    ),
]
GatewayPriority = Annotated[
    str, Option("--gw-priority", metavar="N", help="Refused but for 0.", hidden=True)
]
DnsAdd = Annotated[
    tuple[str, ...], Option("--dns-add", metavar="ADDRESS", help="Ask this name server, too.")
]
DnsDrop = Annotated[
    tuple[str, ...], Option("--dns-drop", metavar="ADDRESS", help="Ask this one no more.")
]
VerboseTasks = Annotated[
    bool, Option("--verbose", "-v", help="Show the tasks of swarm services: there are none.")
]

# --- events ------------------------------------------------------------------

SinceEvents = Annotated[
    str, Option("--since", metavar="TIME", help="From then on (date, seconds, or 10m ago).")
]
UntilEvents = Annotated[
    str, Option("--until", metavar="TIME", help="Until then; it ends when that is over.")
]
NoTruncEvents = Annotated[bool, Option("--no-trunc", help="Do not shorten ids (default: true).")]
Stream = Annotated[
    bool, Option("--stream", help="Wait for what happens (default: true); else show the past.")
]
