"""The options of ``create`` and ``run`` as the user gave them, one field each."""

from __future__ import annotations

from podpy.records import record


@record
class ContainerOptions:
    """One field per option, named as the long option with ``_`` for ``-``.

    Repeated options are tuples of the texts given, switches are bool, all
    others are texts with ``""`` for "not given".  Three fields tell "not
    given" from "given and empty" by None.  Nothing is parsed here:
    :mod:`podpy.engine.containers` does that and names the option in its errors.

    With ``rootfs`` the ``image`` is a directory.
    """

    image: str
    command: tuple[str, ...] = ()

    # --- how the command runs with its container
    name: str = ""
    replace: bool = False
    detach: bool = False
    interactive: bool = False
    tty: bool = False
    attach: tuple[str, ...] = ()
    detach_keys: str | None = None
    sig_proxy: bool = True
    rm: bool = False
    rmi: bool = False
    cidfile: str = ""
    pidfile: str = ""
    timeout: str = ""
    preserve_fds: str = ""
    preserve_fd: tuple[str, ...] = ()

    # --- the image
    rootfs: bool = False
    pull: str = ""
    platform: str = ""
    arch: str = ""
    os: str = ""
    variant: str = ""
    quiet: bool = False
    authfile: str = ""
    creds: str = ""
    cert_dir: str = ""
    tls_verify: bool | None = None

    # --- the process
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    env_host: bool = False
    unsetenv: tuple[str, ...] = ()
    unsetenv_all: bool = False
    http_proxy: bool = True
    user: str = ""
    group_add: tuple[str, ...] = ()
    workdir: str = ""
    init: bool = False
    umask: str = ""
    tz: str = ""
    stop_signal: str = ""
    stop_timeout: str = ""
    ulimit: tuple[str, ...] = ()
    oom_score_adj: str = ""

    # --- descriptions
    label: tuple[str, ...] = ()
    label_file: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()

    # --- files
    volume: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    image_volume: str = ""
    device: tuple[str, ...] = ()
    read_only: bool = False
    read_only_tmpfs: bool = False
    shm_size: str = ""

    # --- network
    network: tuple[str, ...] = ()
    network_alias: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    link: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    hostname: str = ""
    no_hostname: bool = False
    domainname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    add_host: tuple[str, ...] = ()
    no_hosts: bool = False
    hosts_file: str = ""
    link_local_ip: tuple[str, ...] = ()

    # --- namespaces
    userns: str = ""
    uidmap: tuple[str, ...] = ()
    gidmap: tuple[str, ...] = ()
    subuidname: str = ""
    subgidname: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""

    # --- security
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    sysctl: tuple[str, ...] = ()

    # --- output
    log_driver: str = ""
    log_opt: tuple[str, ...] = ()
