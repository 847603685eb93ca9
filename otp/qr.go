package otp

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

const (
	// quietZone is the empty border that ISO/IEC 18004 asks for, in modules.
	quietZone = 4
	// tightZone is the narrowest border that phones put up with.
	tightZone = 2
	// fitsTerminal is the side in modules, border included, of what fits 80x24 with a line left
	// for the prompt: two modules a line, one a column.
	fitsTerminal = 45
	// widestTerminal is the same for a terminal of 80 columns that people have made higher.
	widestTerminal = 80
)

// errTooLong is the error for a text that no QR code of the wanted size holds.
var errTooLong = errors.New("the text is too long for a QR code of this size")

// matrix is a QR code without its border. Outside of it all modules are light.
type matrix struct {
	code barcode.Barcode
	side int // modules
}

// encode makes the QR code of a text. It returns [errTooLong] if there is none.
func encode(text string, level qr.ErrorCorrectionLevel) (matrix, error) {
	code, err := qr.Encode(text, level, qr.Auto)
	if err != nil {
		return matrix{}, errTooLong
	}
	return matrix{code: code, side: code.Bounds().Dx()}, nil
}

// dark tells whether the module in column x and row y is dark.
func (m matrix) dark(x, y int) bool {
	return image.Pt(x, y).In(m.code.Bounds()) && m.code.At(x, y) == color.Black
}

// smallest makes the smallest QR code of a text, with error correction of level M if that costs no
// space over level L.
func smallest(text string) (matrix, error) {
	m, err := encode(text, qr.L)
	if err != nil {
		return matrix{}, err
	}
	if better, err := encode(text, qr.M); err == nil && better.side == m.side {
		return better, nil
	}
	return m, nil
}

// TerminalQR draws a QR code with half-block characters, two modules a character, without escape
// sequences, because SSH clients do not let these pass before the login. Light modules are drawn in the
// foreground colour, as dark terminals need it; on light ones the code is inverted, which current
// apps read. Every line ends with a line feed.
//
// The otpauth URI of a name of ordinary length takes at most 23 lines of 45 columns. To get there,
// the border shrinks from four modules to two, and then a URI loses the parameters that only repeat
// defaults; the token that an app makes of it is the same. A longer text gets a higher drawing, and one
// that needs more than 80 columns an error.
func TerminalQR(text string) (string, error) {
	m, err := smallest(text)
	if err != nil || m.side+2*tightZone > fitsTerminal {
		m, err = smallest(withoutDefaults(text))
	}
	if err == nil && m.side+2*tightZone > widestTerminal {
		err = errTooLong
	}
	if err != nil {
		return "", fmt.Errorf("drawing a QR code for a terminal: %w", err)
	}
	border := min(quietZone, max(tightZone, (fitsTerminal-m.side)/2))
	var b strings.Builder
	for y := -border; y < m.side+border; y += 2 {
		for x := -border; x < m.side+border; x++ {
			b.WriteString(halfBlock(m.dark(x, y), m.dark(x, y+1)))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// halfBlock returns the character whose upper and lower half are empty where a module is dark.
func halfBlock(upperDark, lowerDark bool) string {
	switch {
	case upperDark && lowerDark:
		return " "
	case upperDark:
		return "▄"
	case lowerDark:
		return "▀"
	}
	return "█"
}

// maxPixels bounds the pictures that [PNG] makes.
const maxPixels = 2048

// PNG returns a QR code of level M as a black and white PNG of px × px pixels with a border of at
// least four modules. It is an error if the text is too long, or if a module would be smaller than
// a pixel.
func PNG(text string, px int) ([]byte, error) {
	m, err := encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("drawing a QR code: %w", err)
	}
	scale := px / (m.side + 2*quietZone)
	if scale < 1 || px > maxPixels {
		return nil, fmt.Errorf("drawing a QR code of %d modules: %d pixels are not between %d and %d",
			m.side, px, m.side+2*quietZone, maxPixels)
	}
	img := image.NewPaletted(image.Rect(0, 0, px, px), color.Palette{color.White, color.Black})
	offset := (px - m.side*scale) / 2
	for y := range m.side * scale {
		for x := range m.side * scale {
			if m.dark(x/scale, y/scale) {
				img.SetColorIndex(offset+x, offset+y, 1)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("drawing a QR code: %w", err)
	}
	return b.Bytes(), nil
}

// SVG returns a QR code of level M as an svg element to stand inside an HTML page: black on white,
// border of four modules, 240 × 240 unless the page's style says otherwise, without scripts, styles
// or text. Nothing of text's characters is in it, so it needs no escaping.
func SVG(text string) (string, error) {
	m, err := encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("drawing a QR code: %w", err)
	}
	var b strings.Builder
	side := m.side + 2*quietZone
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="QR code" class="qr" width="240" height="240" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, side, side)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/><path fill="#000" d="`, side, side)
	for y := range m.side {
		for x := 0; x < m.side; x++ {
			run := x
			for m.dark(run, y) {
				run++
			}
			if run > x {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quietZone, y+quietZone, run-x, run-x)
				x = run
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.String(), nil
}
