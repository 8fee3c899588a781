"""What a file system means: inodes, names, caches, read-ahead and write-behind over an SMB share."""
