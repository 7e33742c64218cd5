case "$1" in
remove)
    delete_program
    ;;
purge)
    rm -rf /etc/ucloud-slurm /var/cache/ucloud-slurm
    # It has the charges that UCloud has not accepted yet, and the backups: only an administrator deletes it.
    if [ -d /var/lib/ucloud-slurm ] && ! rmdir /var/lib/ucloud-slurm 2>/dev/null; then
        say "the database and its backups are kept in /var/lib/ucloud-slurm. If nobody needs them: rm -r /var/lib/ucloud-slurm"
    fi
    ;;
esac
