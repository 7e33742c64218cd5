"""The file unit: the contents of files, between browsers and the files of users. Its WSGI application is of its own."""
