package web

// For the suite that compares them with the language.
type (
	CheckConfig = checkConfig
	DrainConfig = drainConfig
)
