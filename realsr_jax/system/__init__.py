"""What everything shares below the package's subject: files, the terminal, processes, and errors for users."""
