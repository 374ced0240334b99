"""The command line as data, made by ``python3 -m podpy.cli.compile``: do not edit.

See :mod:`podpy.cli.parse` for what the texts mean.
"""

# fmt: off

SETTINGS = (
    "root,--root runroot,--runroot !debug,--debug,-D log_level,--log-level"
)

COMMANDS = (
    (
        "run", "run", True, False,
        "name,--name !replace,--replace !detach,--detach,-d !interactive,--interactive,-i "
        "!tty,--tty,-t *attach,--attach,-a detach_keys,--detach-keys !sig_proxy,--sig-proxy "
        "!rm,--rm !rmi,--rmi cidfile,--cidfile pidfile,--pidfile timeout,--timeout "
        "preserve_fds,--preserve-fds *preserve_fd,--preserve-fd !rootfs,--rootfs pull,--pull "
        "platform,--platform arch,--arch os,--os variant,--variant !quiet,--quiet,-q "
        "authfile,--authfile creds,--creds cert_dir,--cert-dir !tls_verify,--tls-verify "
        "entrypoint,--entrypoint *env,--env,-e *env_file,--env-file !env_host,--env-host "
        "*unsetenv,--unsetenv !unsetenv_all,--unsetenv-all !http_proxy,--http-proxy "
        "user,--user,-u *group_add,--group-add workdir,--workdir,-w !init,--init "
        "umask,--umask tz,--tz stop_signal,--stop-signal stop_timeout,--stop-timeout "
        "*ulimit,--ulimit oom_score_adj,--oom-score-adj *label,--label,-l "
        "*label_file,--label-file *annotation,--annotation *volume,--volume,-v *mount,--mount "
        "*tmpfs,--tmpfs *volumes_from,--volumes-from image_volume,--image-volume "
        "*device,--device !read_only,--read-only !read_only_tmpfs,--read-only-tmpfs "
        "shm_size,--shm-size *network,--network,--net "
        "*network_alias,--network-alias,--net-alias ip,--ip ip6,--ip6 "
        "mac_address,--mac-address *link,--link *egress,--egress *publish,--publish,-p "
        "!publish_all,--publish-all,-P *expose,--expose hostname,--hostname,-h "
        "!no_hostname,--no-hostname domainname,--domainname *dns,--dns "
        "*dns_search,--dns-search *dns_option,--dns-option,--dns-opt *add_host,--add-host "
        "!no_hosts,--no-hosts hosts_file,--hosts-file *link_local_ip,--link-local-ip "
        "userns,--userns *uidmap,--uidmap *gidmap,--gidmap subuidname,--subuidname "
        "subgidname,--subgidname pid,--pid ipc,--ipc uts,--uts cgroupns,--cgroupns "
        "cgroup_parent,--cgroup-parent !privileged,--privileged *cap_add,--cap-add "
        "*cap_drop,--cap-drop *security_opt,--security-opt *sysctl,--sysctl "
        "log_driver,--log-driver *log_opt,--log-opt",
        "image command*",
    ),
    (
        "run", "create", True, False,
        "name,--name !replace,--replace !interactive,--interactive,-i !tty,--tty,-t "
        "*attach,--attach,-a !rm,--rm cidfile,--cidfile pidfile,--pidfile timeout,--timeout "
        "!rootfs,--rootfs pull,--pull platform,--platform arch,--arch os,--os "
        "variant,--variant !quiet,--quiet,-q authfile,--authfile creds,--creds "
        "cert_dir,--cert-dir !tls_verify,--tls-verify entrypoint,--entrypoint *env,--env,-e "
        "*env_file,--env-file !env_host,--env-host *unsetenv,--unsetenv "
        "!unsetenv_all,--unsetenv-all !http_proxy,--http-proxy user,--user,-u "
        "*group_add,--group-add workdir,--workdir,-w !init,--init umask,--umask tz,--tz "
        "stop_signal,--stop-signal stop_timeout,--stop-timeout *ulimit,--ulimit "
        "oom_score_adj,--oom-score-adj *label,--label,-l *label_file,--label-file "
        "*annotation,--annotation *volume,--volume,-v *mount,--mount *tmpfs,--tmpfs "
        "*volumes_from,--volumes-from image_volume,--image-volume *device,--device "
        "!read_only,--read-only !read_only_tmpfs,--read-only-tmpfs shm_size,--shm-size "
        "*network,--network,--net *network_alias,--network-alias,--net-alias ip,--ip "
        "ip6,--ip6 mac_address,--mac-address *link,--link *egress,--egress "
        "*publish,--publish,-p !publish_all,--publish-all,-P *expose,--expose "
        "hostname,--hostname,-h !no_hostname,--no-hostname domainname,--domainname *dns,--dns "
        "*dns_search,--dns-search *dns_option,--dns-option,--dns-opt *add_host,--add-host "
        "!no_hosts,--no-hosts hosts_file,--hosts-file *link_local_ip,--link-local-ip "
        "userns,--userns *uidmap,--uidmap *gidmap,--gidmap subuidname,--subuidname "
        "subgidname,--subgidname pid,--pid ipc,--ipc uts,--uts cgroupns,--cgroupns "
        "cgroup_parent,--cgroup-parent !privileged,--privileged *cap_add,--cap-add "
        "*cap_drop,--cap-drop *security_opt,--security-opt *sysctl,--sysctl "
        "log_driver,--log-driver *log_opt,--log-opt",
        "image command*",
    ),
    (
        "run", "start", True, True,
        "!attach,--attach,-a !interactive,--interactive,-i detach_keys,--detach-keys "
        "!sig_proxy,--sig-proxy !every,--all !latest,--latest,-l *filters,--filter,-f",
        "names*",
    ),
    (
        "run", "attach", True, True,
        "!no_stdin,--no-stdin detach_keys,--detach-keys !sig_proxy,--sig-proxy",
        "name",
    ),
    (
        "run", "exec_", True, False,
        "!detach,--detach,-d !interactive,--interactive,-i !tty,--tty,-t *env,--env,-e "
        "*env_file,--env-file user,--user,-u workdir,--workdir,-w !privileged,--privileged "
        "detach_keys,--detach-keys preserve_fds,--preserve-fds *preserve_fd,--preserve-fd",
        "name command+",
    ),
    (
        "ps", "ps", True, True,
        "!show_all,--all,-a *filters,--filter,-f format_,--format #last,--last,-n "
        "!latest,--latest,-l !no_trunc,--no-trunc !noheading,--noheading !quiet,--quiet,-q "
        "!size,--size,-s sort,--sort",
        "",
    ),
    (
        "containers", "stop", True, True,
        "seconds,--time,-t,--timeout signal,--signal,-s !every,--all,-a !latest,--latest,-l "
        "!ignore,--ignore,-i *filters,--filter,-f *cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "kill", True, True,
        "signal,--signal,-s !every,--all,-a !latest,--latest,-l *cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "restart", True, True,
        "seconds,--time,-t,--timeout signal,--signal,-s !every,--all,-a !latest,--latest,-l "
        "!running,--running *filters,--filter,-f *cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "pause", True, True,
        "!every,--all,-a !latest,--latest,-l *filters,--filter,-f *cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "unpause", True, True,
        "!every,--all,-a !latest,--latest,-l *filters,--filter,-f *cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "rm", True, True,
        "!force,--force,-f !volumes,--volumes,-v !every,--all,-a !latest,--latest,-l "
        "!ignore,--ignore,-i seconds,--time,-t,--timeout !depend,--depend *filters,--filter "
        "*cidfile,--cidfile",
        "names*",
    ),
    (
        "containers", "wait", True, True,
        "*condition,--condition interval,--interval,-i !ignore,--ignore !latest,--latest,-l",
        "names*",
    ),
    (
        "containers", "rename", True, True,
        "",
        "name new_name",
    ),
    (
        "containers", "top", True, False,
        "",
        "name columns*",
    ),
    (
        "containers", "port", True, True,
        "!every,--all,-a !latest,--latest,-l",
        "name? wanted?",
    ),
    (
        "logs", "logs", True, True,
        "!follow,--follow,-f since,--since until,--until tail,--tail,-n "
        "!timestamps,--timestamps,-t !show_names,--names !color,--color",
        "names+",
    ),
    (
        "inspect", "inspect", True, True,
        "format_,--format,-f kind,--type,-t !size,--size,-s",
        "names+",
    ),
    (
        "images", "ls", True, True,
        "!show_all,--all,-a !digests,--digests *filters,--filter,-f format_,--format "
        "!no_trunc,--no-trunc !noheading,--noheading,-n !quiet,--quiet,-q sort,--sort",
        "name?",
    ),
    (
        "images", "rm", True, True,
        "!force,--force,-f !every,--all,-a !ignore,--ignore,-i !no_prune,--no-prune",
        "names*",
    ),
    (
        "images", "tag", True, True,
        "",
        "name new_names+",
    ),
    (
        "images", "untag", True, True,
        "",
        "name old_names*",
    ),
    (
        "images", "history", True, True,
        "format_,--format !human,--human,-H !no_trunc,--no-trunc !quiet,--quiet,-q",
        "name",
    ),
    (
        "images", "load", True, True,
        "input_,--input,-i !quiet,--quiet,-q platform,--platform",
        "",
    ),
    (
        "images", "save", True, True,
        "output_,--output,-o format_,--format !quiet,--quiet,-q",
        "names+",
    ),
    (
        "images", "import_", True, True,
        "*change,--change,-c message,--message,-m !quiet,--quiet,-q arch,--arch os_,--os "
        "variant,--variant",
        "source reference?",
    ),
    (
        "builds", "build", True, True,
        "*file,--file,-f target,--target *build_arg,--build-arg "
        "*build_arg_file,--build-arg-file *build_context,--build-context "
        "ignorefile,--ignorefile from_,--from *platform,--platform os,--os arch,--arch "
        "variant,--variant !all_platforms,--all-platforms "
        "!skip_unused_stages,--skip-unused-stages jobs,--jobs *cpp_flag,--cpp-flag "
        "call,--call !check,--check *tag,--tag,-t manifest,--manifest *label,--label "
        "*layer_label,--layer-label *annotation,--annotation *unsetenv,--unsetenv "
        "*unsetlabel,--unsetlabel *unsetannotation,--unsetannotation "
        "!inherit_labels,--inherit-labels !inherit_annotations,--inherit-annotations "
        "!identity_label,--identity-label !created_annotation,--created-annotation *env,--env "
        "format,--format !omit_history,--omit-history *os_feature,--os-feature "
        "os_version,--os-version !squash,--squash !squash_all,--squash-all "
        "timestamp,--timestamp source_date_epoch,--source-date-epoch "
        "!rewrite_timestamp,--rewrite-timestamp !compat_volumes,--compat-volumes "
        "!save_stages,--save-stages !stage_labels,--stage-labels *output,--output,-o "
        "!load,--load !push,--push iidfile,--iidfile iidfile_raw,--iidfile-raw "
        "metadata_file,--metadata-file sbom,--sbom provenance,--provenance *attest,--attest "
        "!compress,--compress !disable_compression,--disable-compression,-D !layers,--layers "
        "!no_cache,--no-cache *no_cache_filter,--no-cache-filter *cache_from,--cache-from "
        "*cache_to,--cache-to cache_ttl,--cache-ttl !rm,--rm !force_rm,--force-rm "
        "?pull,--pull authfile,--authfile creds,--creds cert_dir,--cert-dir "
        "!tls_verify,--tls-verify retry,--retry retry_delay,--retry-delay *secret,--secret "
        "*ssh,--ssh *volume,--volume,-v *mount,--mount *device,--device "
        "network,--network,--net *add_host,--add-host *dns,--dns *dns_search,--dns-search "
        "*dns_option,--dns-option,--dns-opt !no_hosts,--no-hosts !no_hostname,--no-hostname "
        "!http_proxy,--http-proxy !stdin,--stdin isolation,--isolation *cap_add,--cap-add "
        "*cap_drop,--cap-drop *security_opt,--security-opt *allow,--allow "
        "*group_add,--group-add *ulimit,--ulimit shm_size,--shm-size memory,--memory,-m "
        "memory_swap,--memory-swap cpu_period,--cpu-period cpu_quota,--cpu-quota "
        "cpu_shares,--cpu-shares,-c cpuset_cpus,--cpuset-cpus cpuset_mems,--cpuset-mems "
        "cgroup_parent,--cgroup-parent cgroupns,--cgroupns ipc,--ipc pid,--pid uts,--uts "
        "userns,--userns *userns_uid_map,--userns-uid-map *userns_gid_map,--userns-gid-map "
        "userns_uid_map_user,--userns-uid-map-user "
        "userns_gid_map_group,--userns-gid-map-group builder,--builder runtime,--runtime "
        "*runtime_flag,--runtime-flag *hooks_dir,--hooks-dir sign_by,--sign-by "
        "*decryption_key,--decryption-key cw,--cw source_policy_file,--source-policy-file "
        "!disable_content_trust,--disable-content-trust "
        "sbom_scanner_image,--sbom-scanner-image *sbom_scanner_command,--sbom-scanner-command "
        "sbom_merge_strategy,--sbom-merge-strategy sbom_output,--sbom-output "
        "sbom_purl_output,--sbom-purl-output sbom_image_output,--sbom-image-output "
        "sbom_image_purl_output,--sbom-image-purl-output !quiet,--quiet,-q "
        "progress,--progress logfile,--logfile !log_split_by_platform,--logsplit",
        "context?",
    ),
    (
        "transfer", "pull", True, True,
        "!all_tags,--all-tags,-a platform,--platform arch,--arch os_,--os variant,--variant "
        "policy,--policy !quiet,--quiet,-q authfile,--authfile cert_dir,--cert-dir "
        "creds,--creds !tls_verify,--tls-verify retry,--retry retry_delay,--retry-delay",
        "references+",
    ),
    (
        "transfer", "push", True, True,
        "!quiet,--quiet,-q !all_tags,--all-tags,-a authfile,--authfile cert_dir,--cert-dir "
        "creds,--creds !tls_verify,--tls-verify digestfile,--digestfile retry,--retry "
        "retry_delay,--retry-delay",
        "name destination?",
    ),
    (
        "transfer", "login", True, True,
        "username,--username,-u password,--password,-p !password_stdin,--password-stdin "
        "authfile,--authfile cert_dir,--cert-dir !tls_verify,--tls-verify "
        "!get_login,--get-login !verbose,--verbose,-v",
        "registry?",
    ),
    (
        "transfer", "logout", True, True,
        "!every,--all,-a authfile,--authfile",
        "registry?",
    ),
    (
        "events", "events", True, True,
        "since,--since until,--until *filters,--filter,-f format_,--format "
        "!no_trunc,--no-trunc !stream,--stream",
        "",
    ),
    (
        "system", "version", False, True,
        "format_,--format,-f",
        "",
    ),
    (
        "system", "info", True, True,
        "format_,--format,-f",
        "",
    ),
    (
        "containers", "prune", True, True,
        "!force,--force,-f *filters,--filter",
        "",
    ),
    (
        "containers", "exists", True, True,
        "",
        "name",
    ),
    (
        "inspect", "container", True, True,
        "format_,--format,-f !size,--size,-s",
        "names+",
    ),
    (
        "inspect", "image", True, True,
        "format_,--format,-f",
        "names+",
    ),
    (
        "images", "exists", True, True,
        "",
        "name",
    ),
    (
        "images", "prune", True, True,
        "!force,--force,-f !every,--all,-a *filters,--filter",
        "",
    ),
    (
        "inspect", "network", True, True,
        "format_,--format,-f !verbose,--verbose,-v",
        "names+",
    ),
    (
        "networks", "create", True, True,
        "driver,--driver,-d *subnet,--subnet *gateway,--gateway *ip_range,--ip-range "
        "*aux_address,--aux-address !ipv4,--ipv4 !ipv6,--ipv6 !internal,--internal "
        "!disable_dns,--disable-dns *dns,--dns *route,--route interface_name,--interface-name "
        "*label,--label *options,--opt,-o !ignore,--ignore ipam_driver,--ipam-driver "
        "*ipam_opt,--ipam-opt !attachable,--attachable scope,--scope "
        "config_from,--config-from !config_only,--config-only !ingress,--ingress",
        "name?",
    ),
    (
        "networks", "ls", True, True,
        "*filters,--filter,-f format_,--format !quiet,--quiet,-q !no_trunc,--no-trunc "
        "!noheading,--noheading,-n",
        "",
    ),
    (
        "networks", "rm", True, True,
        "!force,--force,-f seconds,--time,-t,--timeout",
        "names+",
    ),
    (
        "networks", "prune", True, True,
        "!force,--force,-f *filters,--filter",
        "",
    ),
    (
        "networks", "exists", True, True,
        "",
        "name",
    ),
    (
        "networks", "connect", True, True,
        "*alias,--alias ip,--ip ip6,--ip6 mac_address,--mac-address *driver_opt,--driver-opt "
        "*link,--link *link_local_ip,--link-local-ip gw_priority,--gw-priority",
        "network container",
    ),
    (
        "networks", "disconnect", True, True,
        "!force,--force,-f",
        "network container",
    ),
    (
        "networks", "update", True, True,
        "*dns_add,--dns-add *dns_drop,--dns-drop",
        "network",
    ),
    (
        "networks", "reload", True, True,
        "!every,--all,-a !latest,--latest,-l",
        "names*",
    ),
    (
        "inspect", "volume", True, True,
        "format_,--format,-f",
        "names+",
    ),
    (
        "volumes", "create", True, True,
        "driver,--driver,-d *labels,--label,-l *options,--opt,-o !ignore,--ignore",
        "name?",
    ),
    (
        "volumes", "ls", True, True,
        "*filters,--filter,-f format_,--format !quiet,--quiet,-q !noheading,--noheading,-n",
        "",
    ),
    (
        "volumes", "rm", True, True,
        "!force,--force,-f !every,--all,-a",
        "names*",
    ),
    (
        "volumes", "prune", True, True,
        "!force,--force,-f !every,--all,-a *filters,--filter",
        "",
    ),
    (
        "volumes", "exists", True, True,
        "",
        "name",
    ),
    (
        "builds", "prune", True, True,
        "!force,--force,-f !every,--all,-a *filters,--filter "
        "keep,--keep-storage,--reserved-space !verbose,--verbose builder,--builder",
        "",
    ),
    (
        "builds", "du", True, True,
        "*filters,--filter !verbose,--verbose format_,--format builder,--builder",
        "",
    ),
)

GROUPS = {
    "": {
        "run": 0, "create": 1, "start": 2, "attach": 3, "exec": 4, "ps": 5, "stop":
        6, "kill": 7, "restart": 8, "pause": 9, "unpause": 10, "rm": 11, "wait": 12,
        "rename": 13, "top": 14, "port": 15, "logs": 16, "inspect": 17, "images":
        18, "rmi": 19, "tag": 20, "untag": 21, "history": 22, "load": 23, "save":
        24, "import": 25, "build": 26, "pull": 27, "push": 28, "login": 29,
        "logout": 30, "events": 31, "version": 32, "info": 33
    },
    "container": {
        "run": 0, "create": 1, "start": 2, "attach": 3, "exec": 4, "ls": 5, "list":
        5, "ps": 5, "stop": 6, "kill": 7, "restart": 8, "pause": 9, "unpause": 10,
        "rm": 11, "wait": 12, "rename": 13, "top": 14, "port": 15, "prune": 34,
        "exists": 35, "logs": 16, "inspect": 36
    },
    "image": {
        "inspect": 37, "ls": 18, "list": 18, "rm": 19, "remove": 19, "tag": 20,
        "untag": 21, "history": 22, "load": 23, "save": 24, "import": 25, "exists":
        38, "prune": 39, "build": 26, "pull": 27, "push": 28
    },
    "network": {
        "inspect": 40, "create": 41, "ls": 42, "list": 42, "rm": 43, "remove": 43,
        "prune": 44, "exists": 45, "connect": 46, "disconnect": 47, "update": 48,
        "reload": 49
    },
    "volume": {
        "inspect": 50, "create": 51, "ls": 52, "list": 52, "rm": 53, "remove": 53,
        "prune": 54, "exists": 55
    },
    "builder": {
        "build": 26, "prune": 56, "du": 57
    },
    "buildx": {
        "build": 26, "b": 26, "prune": 56, "du": 57
    },
    "system": {
        "events": 31, "info": 33
    },
}
