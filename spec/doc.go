// Package spec is the language: a repository of HCL files in, values out.
//
// [Load] reads a repository, guards and parses every file, and keeps of each no
// more than its bytes and the headers of its services. [Fleet.For] evaluates
// what one host should run; [Fleet.Validate], everything there is, without a
// host. Evaluation is pure and total: the same commit and host give the same
// values, and no input costs more than the limits in guard.go and eval.go allow.
//
// What may be written stands in one table, schema_language.go and
// schema_drivers.go, which decoding, defaults, checks, suggestions and `drydock
// explain` read.
package spec

// Zones are the tool's own, so that a window means the same on every host,
// also on one without a zone database.
import _ "time/tzdata"
