case "$1" in
install)
    refuse_installation_by_hand
    ;;
upgrade)
    if dpkg --compare-versions "$2" gt "@VERSION@"; then
        say "a downgrade from $2 to @VERSION@ is refused, because the newer release may have changed the database. Remove the package, which keeps the database, then install the older one: /usr/share/doc/ucloud-slurm/docs/howto/packages.rst"
        exit 1
    fi
    pause
    clear_bytecode
    ;;
esac
