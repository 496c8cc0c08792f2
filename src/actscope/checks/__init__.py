"""The public contract suites: what every subject, store, dictionary, intervention and task must do."""
