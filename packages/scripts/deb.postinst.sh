case "$1" in
configure | abort-upgrade | abort-remove | abort-deconfigure)
    failed=0
    { make_accounts_and_folders && make_program_for_sudo; } || failed=1
    compile
    resume
    exit $failed
    ;;
esac
