"""The options of ``build`` as the user gave them, one field each."""

from __future__ import annotations

from podpy.records import record


@record
class BuildOptions:
    """One field per option, named as the long option with ``_`` for ``-``.

    Repeated options are tuples of the texts given, switches are bool, all
    others are texts with ``""`` for "not given".  A switch that is None was
    not given, where that differs from "off".  Nothing is parsed here:
    :mod:`podpy.engine.build_request` and :mod:`podpy.engine.build_outputs` do
    that; :mod:`podpy.engine.build_refusals` knows what cannot be had.

    ``context`` is a directory, a URL or ``-``; empty means the directory of
    the first ``file``, else the current one.
    """

    context: str = ""

    # --- what is built
    file: tuple[str, ...] = ()
    target: str = ""
    build_arg: tuple[str, ...] = ()
    build_arg_file: tuple[str, ...] = ()
    build_context: tuple[str, ...] = ()
    ignorefile: str = ""
    from_: str = ""
    platform: tuple[str, ...] = ()
    os: str = ""
    arch: str = ""
    variant: str = ""
    all_platforms: bool = False
    skip_unused_stages: bool = True
    jobs: str = ""
    cpp_flag: tuple[str, ...] = ()
    call: str = ""
    check: bool = False

    # --- the image
    tag: tuple[str, ...] = ()
    manifest: str = ""
    label: tuple[str, ...] = ()
    layer_label: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    unsetenv: tuple[str, ...] = ()
    unsetlabel: tuple[str, ...] = ()
    unsetannotation: tuple[str, ...] = ()
    inherit_labels: bool = True
    inherit_annotations: bool | None = None
    identity_label: bool = False
    created_annotation: bool = False
    env: tuple[str, ...] = ()
    format: str = ""
    omit_history: bool = False
    os_feature: tuple[str, ...] = ()
    os_version: str = ""
    squash: bool = False
    squash_all: bool = False
    timestamp: str = ""
    source_date_epoch: str = ""
    rewrite_timestamp: bool = False
    compat_volumes: bool = False
    save_stages: bool = False
    stage_labels: bool = False

    # --- where it goes
    output: tuple[str, ...] = ()
    load: bool = False
    push: bool = False
    iidfile: str = ""
    iidfile_raw: str = ""
    metadata_file: str = ""
    sbom: str = ""
    provenance: str = ""
    attest: tuple[str, ...] = ()
    compress: bool = False
    disable_compression: bool = True

    # --- the cache
    layers: bool | None = None
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    cache_ttl: str = ""
    rm: bool = True
    force_rm: bool = True

    # --- registries
    pull: str = ""
    authfile: str = ""
    creds: str = ""
    cert_dir: str = ""
    tls_verify: bool | None = None
    retry: str = ""
    retry_delay: str = ""

    # --- what RUN gets
    secret: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    network: str = ""
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    no_hosts: bool = False
    no_hostname: bool = False
    http_proxy: bool = True
    stdin: bool = False
    isolation: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ulimit: tuple[str, ...] = ()
    shm_size: str = ""
    memory: str = ""
    memory_swap: str = ""
    cpu_period: str = ""
    cpu_quota: str = ""
    cpu_shares: str = ""
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    cgroupns: str = ""
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    userns: str = ""
    userns_uid_map: tuple[str, ...] = ()
    userns_gid_map: tuple[str, ...] = ()
    userns_uid_map_user: str = ""
    userns_gid_map_group: str = ""

    # --- of other builders' making
    builder: str = ""
    runtime: str = ""
    runtime_flag: tuple[str, ...] = ()
    hooks_dir: tuple[str, ...] = ()
    sign_by: str = ""
    decryption_key: tuple[str, ...] = ()
    cw: str = ""
    source_policy_file: str = ""
    disable_content_trust: bool = True
    sbom_scanner_image: str = ""
    sbom_scanner_command: tuple[str, ...] = ()
    sbom_merge_strategy: str = ""
    sbom_output: str = ""
    sbom_purl_output: str = ""
    sbom_image_output: str = ""
    sbom_image_purl_output: str = ""

    # --- what is shown
    quiet: bool = False
    progress: str = ""
    logfile: str = ""
    log_split_by_platform: bool = False
