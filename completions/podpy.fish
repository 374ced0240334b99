# fish completion of podpy: install as /usr/share/fish/vendor_completions.d/podpy.fish

complete --command podpy --no-files \
    --condition "_PODPY_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=is-args _TYPER_COMPLETE_ARGS=(commandline -cp) podpy" \
    --arguments "(_PODPY_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=(commandline -cp) podpy)"
