case "$1" in
configure | abort-upgrade | abort-remove | abort-deconfigure)
    failed=0
    { make_accounts_and_folders && make_program_for_sudo; } || failed=1
    compile
    # After an upgrade that was broken off, what runs is of the release that is back.
    [ "$1" != configure ] || restart
    resume
    exit $failed
    ;;
esac
