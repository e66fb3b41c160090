package haproxy

// For the suite that compares it with the language.
type Config = config
