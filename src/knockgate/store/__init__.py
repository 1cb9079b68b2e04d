"""What must outlive the process, on disk before anything opens."""
