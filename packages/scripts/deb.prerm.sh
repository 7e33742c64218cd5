case "$1" in
remove)
    stop_for_good
    ;;
esac
