package otp_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/boombuler/barcode/qr"
	"sallyport/otp"
)

// grid is a picture in modules, true for dark.
type grid [][]bool

// trim cuts the light border off and returns its width on the left and on top.
func (g grid) trim(t *testing.T) (symbol grid, border int) {
	t.Helper()
	for border < len(g) && !g[border][border] {
		border++
	}
	// The finder patterns in the upper corners make the ends of the first row dark.
	side := 0
	for x, dark := range g[border] {
		if dark {
			side = x - border + 1
		}
	}
	for y, row := range g {
		for x, dark := range row {
			inside := x >= border && y >= border && x < border+side && y < border+side
			if dark && !inside {
				t.Fatalf("dark module at %d,%d outside of %d modules from %d", x, y, side, border)
			}
		}
	}
	for y := border; y < border+side; y++ {
		symbol = append(symbol, g[y][border:border+side])
	}
	return symbol, border
}

// witness returns the modules that barcode's own encoder makes of a text.
func witness(t *testing.T, text string, level qr.ErrorCorrectionLevel) grid {
	t.Helper()
	code, err := qr.Encode(text, level, qr.Auto)
	if err != nil {
		t.Fatalf("encoding %s: %v", text, err)
	}
	var g grid
	for y := range code.Bounds().Dy() {
		var row []bool
		for x := range code.Bounds().Dx() {
			row = append(row, color.GrayModel.Convert(code.At(x, y)).(color.Gray).Y < 128)
		}
		g = append(g, row)
	}
	return g
}

// isSymbol checks that g is the QR code of text at one of the levels and returns which.
func isSymbol(t *testing.T, g grid, text string, levels ...qr.ErrorCorrectionLevel) qr.ErrorCorrectionLevel {
	t.Helper()
	for _, level := range levels {
		if fmt.Sprint(g) == fmt.Sprint(witness(t, text, level)) {
			return level
		}
	}
	t.Fatalf("%d modules are not those of %s", len(g), text)
	return 0
}

// readTerminal turns a drawing of half blocks into modules.
func readTerminal(t *testing.T, drawing string) grid {
	t.Helper()
	if !strings.HasSuffix(drawing, "\n") {
		t.Fatal("the last line does not end")
	}
	var g grid
	for line := range strings.Lines(drawing) {
		var upper, lower []bool
		for _, r := range strings.TrimSuffix(line, "\n") {
			half, ok := map[rune][2]bool{'█': {false, false}, '▀': {false, true}, '▄': {true, false}, ' ': {true, true}}[r]
			if !ok {
				t.Fatalf("character %q in the drawing", r)
			}
			upper, lower = append(upper, half[0]), append(lower, half[1])
		}
		if len(g) > 0 && len(upper) != len(g[0]) {
			t.Fatalf("a line of %d columns under one of %d", len(upper), len(g[0]))
		}
		g = append(g, upper, lower)
	}
	return g
}

func TestTerminalQRFitsTheScreen(t *testing.T) {
	t.Parallel()
	wide := otp.Params{Algorithm: otp.SHA256, Digits: 8, Period: 60}
	tests := []struct {
		name, issuer, account string
		secret                otp.Secret
		params                otp.Params
		short                 bool // the URI is drawn without default parameters
	}{
		{"demo", "Sallyport", "bob", rfcSecret(20), otp.DefaultParams(), false},
		{"mail address", "Sallyport", "alice@example.org", rfcSecret(20), otp.DefaultParams(), false},
		{"other parameters", "Sallyport", "alice", rfcSecret(20), wide, false},
		{"smallest secret", "Sallyport", "alice", rfcSecret(16), otp.DefaultParams(), false},
		{"long mail address", "Sallyport", "maximilian.mustermann@department.example.org", rfcSecret(20), otp.DefaultParams(), true},
		{"company with a colon and an umlaut", "ACME: Ünïcode GmbH", "alice", rfcSecret(20), otp.DefaultParams(), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			uri := otp.URI(tt.issuer, tt.account, tt.secret, tt.params)
			drawing, err := otp.TerminalQR(uri)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(drawing, "\n"), "\n")
			if len(lines) > 23 {
				t.Errorf("%d lines, want at most 23", len(lines))
			}
			if columns := utf8.RuneCountInString(lines[0]); columns > 45 {
				t.Errorf("%d columns, want at most 45", columns)
			}
			symbol, border := readTerminal(t, drawing).trim(t)
			if border < 2 || border > 4 {
				t.Errorf("border of %d modules, want 2 to 4", border)
			}
			if tt.short {
				uri = strings.TrimSuffix(uri, "&algorithm=SHA1&digits=6&period=30")
			}
			isSymbol(t, symbol, uri, qr.L, qr.M)
		})
	}
}

func TestTerminalQRSizes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		text   string
		level  qr.ErrorCorrectionLevel
		border int
		err    bool
	}{
		{"empty", "", qr.M, 4, false},
		{"level M at no cost", "hello, world", qr.M, 4, false},
		{"full of level L", strings.Repeat("a", 17), qr.L, 4, false}, // version 1 holds 17 bytes at L, 14 at M
		{"version 5, full border", strings.Repeat("a", 106), qr.L, 4, false},
		{"version 6, tight border", strings.Repeat("a", 134), qr.L, 2, false},
		{"higher than 24 lines", strings.Repeat("a", 154), qr.L, 2, false},
		{"as wide as 80 columns allow", strings.Repeat("a", 425), qr.L, 2, false}, // version 13, 69 modules
		{"wider than 80 columns", strings.Repeat("a", 600), qr.L, 0, true},
		{"more than any QR code holds", strings.Repeat("a", 3000), qr.L, 0, true},
		{"a question mark, but no otpauth URI", strings.Repeat("a", 200) + "?digits=6", qr.L, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			drawing, err := otp.TerminalQR(tt.text)
			if (err != nil) != tt.err {
				t.Fatalf("got error %v, want one: %t", err, tt.err)
			}
			if tt.err {
				return
			}
			symbol, border := readTerminal(t, drawing).trim(t)
			if border != tt.border {
				t.Errorf("border of %d modules, want %d", border, tt.border)
			}
			isSymbol(t, symbol, tt.text, tt.level)
		})
	}
}

func TestPNG(t *testing.T) {
	t.Parallel()
	uri := otp.URI("Sallyport", "alice", rfcSecret(20), otp.DefaultParams())
	for _, px := range []int{53, 200, 256, 333, 1024} {
		b, err := otp.PNG(uri, px)
		if err != nil {
			t.Fatalf("%d pixels: %v", px, err)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("decoding %d pixels: %v", px, err)
		}
		if img.Bounds() != image.Rect(0, 0, px, px) {
			t.Fatalf("got %v, want %d × %d", img.Bounds(), px, px)
		}
		isDark := func(x, y int) bool { return color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y == 0 }
		var pixels grid
		for y := range px {
			var row []bool
			for x := range px {
				row = append(row, isDark(x, y))
			}
			pixels = append(pixels, row)
		}
		symbol, border := pixels.trim(t)
		side := len(witness(t, uri, qr.M))
		scale := len(symbol) / side
		if len(symbol) != side*scale || border < 4*scale {
			t.Fatalf("%d pixels: %d of symbol and %d of border, want a multiple of %d and 4 modules", px, len(symbol), border, side)
		}
		var modules grid
		for y := range side {
			var row []bool
			for x := range side {
				row = append(row, symbol[y*scale+scale/2][x*scale+scale/2])
			}
			modules = append(modules, row)
		}
		isSymbol(t, modules, uri, qr.M)
	}
	for _, px := range []int{-1, 0, 1, 52, 1 << 30} {
		if _, err := otp.PNG(uri, px); err == nil {
			t.Errorf("%d pixels: no error", px)
		}
	}
	if _, err := otp.PNG(strings.Repeat("a", 3000), 1024); err == nil {
		t.Error("3000 bytes: no error")
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	uri := otp.URI("<script>alert(1)</script>", `"onload="x`, rfcSecret(20), otp.DefaultParams())
	svg, err := otp.SVG(uri)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("it is not XML: %v", err)
	}
	for _, bad := range []string{"script", "onload", "style=", "otpauth", "GEZDGNBV", "href"} {
		if strings.Contains(svg, bad) {
			t.Errorf("it contains %q", bad)
		}
	}
	var g grid
	side := number(t, regexp.MustCompile(`viewBox="0 0 (\d+) \d+"`).FindStringSubmatch(svg)[1])
	for range side {
		g = append(g, make([]bool, side))
	}
	for _, run := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(svg, -1) {
		x, y, length := number(t, run[1]), number(t, run[2]), number(t, run[3])
		if run[3] != run[4] {
			t.Fatalf("%s is no rectangle", run[0])
		}
		for i := range length {
			g[y][x+i] = true
		}
	}
	symbol, border := g.trim(t)
	if border != 4 || side != len(symbol)+8 {
		t.Errorf("%d modules with a border of %d in a box of %d, want a border of 4", len(symbol), border, side)
	}
	isSymbol(t, symbol, uri, qr.M)
	if _, err := otp.SVG(strings.Repeat("a", 3000)); err == nil {
		t.Error("3000 bytes: no error")
	}
}

func number(t *testing.T, digits string) int {
	t.Helper()
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
