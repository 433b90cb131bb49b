"""What all shares below the package's subject: files, the terminal, processes, errors for users."""
