package sql

// Config is for the suite, which compares it with the language.
type Config = config
