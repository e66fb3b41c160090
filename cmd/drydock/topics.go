package main

import (
	_ "embed"
)

// topic is a page of the reference that is not about one block of the language.
type topic struct {
	Topic string `json:"topic"`
	Text  string `json:"text"`
}

//go:embed topics/trust.txt
var trustTopic string // never written to

// topics are the pages that there are.
func topics() []topic {
	return []topic{{"trust", trustTopic}}
}
