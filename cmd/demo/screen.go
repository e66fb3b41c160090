package main

// How the demo speaks:
//   - It tells one story from top to bottom. What stands is never changed
//     again, but for the board of the act that is on: plan, steps and traffic.
//   - Colour and the live board are for terminals; elsewhere a step is a line,
//     written when it ends. NO_COLOR keeps the board and drops the colour.
//   - Colour never says what the words or marks do not.
//   - Commands are shown as one would type them.

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// style is a terminal's way to show a word.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
	cyan   style = "36"
)

const (
	margin   = "   "
	maxWidth = 78
)

// Screen is where the story is told.
type Screen struct {
	w      io.Writer
	colour bool
	live   bool // boards are drawn over themselves
	height int
	width  int

	drawn int // lines of the board that is on
}

// newScreen looks at what it writes to.
func newScreen(w io.Writer) *Screen {
	s := &Screen{w: w, width: maxWidth}
	size, ok := terminal(w)
	if !ok || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.colour = os.Getenv("NO_COLOR") == ""
	if size.Col > 0 {
		s.width = min(int(size.Col)-1, maxWidth)
	}
	s.height = int(size.Row)
	s.live = s.width >= 50 && s.height >= 24
	return s
}

// terminal returns the size of what is a terminal.
func terminal(v any) (*unix.Winsize, bool) {
	f, ok := v.(*os.File)
	if !ok {
		return nil, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return size, err == nil
}

func (s *Screen) paint(c style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Line writes a line of the story.
func (s *Screen) Line(parts ...string) {
	text := strings.Join(parts, "")
	if text != "" {
		text = margin + text
	}
	fmt.Fprintln(s.w, text)
}

// Say writes a sentence, broken at the screen's width.
func (s *Screen) Say(c style, text string) {
	for _, line := range wrap(text, s.width-len(margin)) {
		s.Line(s.paint(c, line))
	}
}

// Title opens the story.
func (s *Screen) Title(name, about string) {
	fmt.Fprintln(s.w)
	s.Line(s.paint(bold, name))
	s.Say(dim, about)
	s.Line()
}

// Act opens an act with its number, name and one sentence.
func (s *Screen) Act(n int, name, sentence string) {
	fmt.Fprintln(s.w)
	head := fmt.Sprintf("%d. %s ", n, name)
	rule := max(s.width-len(margin)-utf8.RuneCountInString(head), 3)
	s.Line(s.paint(bold, head), s.paint(dim, strings.Repeat("─", rule)))
	s.Say("", sentence)
	s.Line()
}

// Done writes that something is finished, and how long it took.
func (s *Screen) Done(what string, took time.Duration) {
	s.Line(s.paint(green, "✓"), " ", pad(what, 52), " ", s.paint(dim, short(took)))
}

// Command writes a command line as one would type it.
func (s *Screen) Command(line string) {
	for i, part := range wrap(line, s.width-len(margin)-4) {
		lead := "$ "
		if i > 0 {
			lead = "    "
		}
		s.Line(s.paint(dim, lead), s.paint(bold, part))
	}
}

// Diff writes changed lines.
func (s *Screen) Diff(lines []string) {
	for _, line := range lines {
		c := green
		if strings.HasPrefix(line, "-") {
			c = red
		}
		s.Line("  ", s.paint(c, cut(line, s.width-len(margin)-2)))
	}
}

// Ask writes an invitation and takes it away again.
func (s *Screen) Ask(text string, wait func() error) error {
	fmt.Fprint(s.w, margin, s.paint(dim, text))
	err := wait()
	if err == nil {
		fmt.Fprint(s.w, "\x1b[1A\r\x1b[K") // Enter has ended the line
	}
	return err
}

// Draw replaces the board's lines on the screen. The cursor is out of sight
// until Leave.
func (s *Screen) Draw(lines []string) {
	var b strings.Builder
	if s.drawn == 0 {
		// No cursor, and no line that wraps: the board is drawn by counting lines.
		b.WriteString("\x1b[?25l\x1b[?7l")
	} else {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	if most := s.height - 2; len(lines) > most {
		lines = lines[len(lines)-most:] // what has scrolled away cannot be drawn again
	}
	for _, line := range lines {
		b.WriteString("\r\x1b[K" + line + "\n")
	}
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	fmt.Fprint(s.w, b.String())
}

// Leave ends a board: its lines are part of the story now.
func (s *Screen) Leave() {
	if s.drawn > 0 {
		fmt.Fprint(s.w, "\x1b[?7h\x1b[?25h")
	}
	s.drawn = 0
}

// Fail ends the story with what went wrong.
func (s *Screen) Fail(err error) {
	s.Leave()
	fmt.Fprintln(s.w)
	for i, line := range strings.Split(err.Error(), "\n") {
		lead := "       "
		if i == 0 {
			lead = s.paint(red, "error:") + " "
		}
		fmt.Fprintln(s.w, lead+line)
	}
}

// wrap breaks a text at spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// cut shortens a line to a width.
func cut(text string, width int) string {
	if r := []rune(text); len(r) > width {
		return string(r[:max(width-1, 0)]) + "…"
	}
	return text
}

// pad fills up to a width; colour is put on afterwards.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
}

func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0)) + text
}

// short is a duration in at most three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// count is a number with its thousands apart.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
