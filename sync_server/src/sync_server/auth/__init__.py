"""Who may do what: accounts, devices, passwords, tokens."""
