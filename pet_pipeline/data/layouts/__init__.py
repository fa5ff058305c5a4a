"""How data sets lie in folders: each module knows one layout and says what a file of it is, or why it is nothing."""
