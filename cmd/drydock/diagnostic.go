package main

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// fileError is diagnostics together with the file that they are about.
type fileError struct {
	diags hcl.Diagnostics
	files map[string]*hcl.File
}

func (e *fileError) Error() string { return e.diags.Error() }
func (e *fileError) Unwrap() error { return e.diags }

// inFile gives an error about a file's content the content, so that report can
// show the line.
func inFile(err error, path string, content []byte) error {
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) {
		return err
	}
	return &fileError{diags, map[string]*hcl.File{path: {Bytes: content}}}
}

// report prints an error: diagnostics with their source lines, anything else
// as a sentence.
func report(s streams, err error) {
	var fe *fileError
	if errors.As(err, &fe) {
		printDiagnostics(s, fe.diags, fe.files)
		return
	}
	s.note("drydock: %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
}

// mostPrinted is how many diagnostics are written: to find its line, each reads
// its file from the start, and nobody reads more. JSON has them all.
const mostPrinted = 100

func printDiagnostics(s streams, diags hcl.Diagnostics, files map[string]*hcl.File) {
	if more := len(diags) - mostPrinted; more > 0 {
		// What is wrong comes before what is only odd.
		sort.SliceStable(diags, func(i, j int) bool { return diags[i].Severity < diags[j].Severity })
		diags = diags[:mostPrinted]
		defer s.note("%d more are not shown. --output json has them all, where a command has it.", more)
	}
	w := hcl.NewDiagnosticTextWriter(s.Err, files, 100, colour(s.Err))
	if err := w.WriteDiagnostics(diags); err != nil {
		fmt.Fprintln(s.Err, diags.Error())
	}
}
