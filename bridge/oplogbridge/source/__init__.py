"""Reading the oplog: one poll (client), what a page means (decode), whose turn it is (turns) and the pace (reader)."""
