package web

import (
	"fmt"
	"html/template"
)

// icons are drawn on a grid of 20 by 20 with strokes of the colour of the text around them.
var icons = map[string]string{
	"overview": `<rect x="3" y="3" width="6" height="8" rx="1.5"/><rect x="11" y="3" width="6" height="5" rx="1.5"/><rect x="3" y="13" width="6" height="4" rx="1.5"/><rect x="11" y="10" width="6" height="7" rx="1.5"/>`,
	"sessions": `<rect x="2.5" y="3.5" width="15" height="13" rx="2"/><path d="m6 8 2.5 2.2L6 12.4M10.5 12.8h3.5"/>`,
	"search":   `<circle cx="8.8" cy="8.8" r="5.3"/><path d="m12.8 12.8 4.2 4.2"/>`,
	"users":    `<circle cx="8" cy="7" r="3"/><path d="M2.5 16.5c.4-3 2.6-4.6 5.5-4.6s5.1 1.6 5.5 4.6M13 4.3a3 3 0 0 1 0 5.4M15 12.3c1.5.7 2.3 2.2 2.5 4.2"/>`,
	"targets":  `<rect x="3" y="3" width="14" height="5.5" rx="1.5"/><rect x="3" y="11.5" width="14" height="5.5" rx="1.5"/><path d="M6 5.75h.01M6 14.25h.01M9.5 5.75H14M9.5 14.25H14"/>`,
	"rules":    `<path d="m3 5 1.3 1.3L6.5 4M3 10.2l1.3 1.3 2.2-2.3M3 15.4l1.3 1.3 2.2-2.3M9.5 5.3H17M9.5 10.5H17M9.5 15.7H17"/>`,
	"robots":   `<rect x="3.5" y="7" width="13" height="9.5" rx="2"/><path d="M10 7V3.5M7.5 3.5h5M7.3 11h.01M12.7 11h.01M7.5 13.7h5M1.5 10.5v3M18.5 10.5v3"/>`,
	"lockouts": `<rect x="4" y="9" width="12" height="8" rx="2"/><path d="M6.5 9V6.5a3.5 3.5 0 0 1 7 0V9M10 12.3v1.6"/>`,
	"audit":    `<path d="M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5M7.7 9.5h5M7.7 12.3h5M7.7 15h3"/>`,
	"admins":   `<path d="M10 2.5 16 5v4.5c0 4-2.6 6.7-6 8-3.4-1.3-6-4-6-8V5zM7.4 9.9l1.9 1.9 3.4-3.6"/>`,
	"ok":       `<path d="m4 10.5 4 4 8-9"/>`,
	"bad":      `<path d="m5 5 10 10M15 5 5 15"/>`,
	"warn":     `<path d="M10 3 1.8 17h16.4zM10 8.2v4M10 14.6h.01"/>`,
	"info":     `<circle cx="10" cy="10" r="7.5"/><path d="M10 9v5M10 6.3h.01"/>`,
	"live":     `<circle cx="10" cy="10" r="3.2" fill="currentColor" stroke="none"/><path d="M4.8 4.8a7.3 7.3 0 0 0 0 10.4M15.2 4.8a7.3 7.3 0 0 1 0 10.4"/>`,
	"ended":    `<rect x="5.5" y="5.5" width="9" height="9" rx="1.5"/>`,
	"todo":     `<circle cx="10" cy="10" r="7" stroke-dasharray="3 2.5"/>`,
	"play":     `<path d="M6.5 4v12l9.5-6z"/>`,
	"download": `<path d="M10 3v9.5M6 9l4 4 4-4M3.5 16.5h13"/>`,
	"none":     `<path d="M5 10h10"/>`,
	"plus":     `<path d="M10 4v12M4 10h12"/>`,
	"back":     `<path d="M12.5 4.5 7 10l5.5 5.5"/>`,
	"next":     `<path d="M7.5 4.5 13 10l-5.5 5.5"/>`,
	"signout":  `<path d="M8 3H4.5A1.5 1.5 0 0 0 3 4.5v11A1.5 1.5 0 0 0 4.5 17H8M12.5 6l4 4-4 4M16.5 10H8"/>`,
	"sun":      `<circle cx="10" cy="10" r="3.5"/><path d="M10 1.8v2M10 16.2v2M1.8 10h2M16.2 10h2M4.2 4.2l1.4 1.4M14.4 14.4l1.4 1.4M15.8 4.2l-1.4 1.4M5.6 14.4l-1.4 1.4"/>`,
	"moon":     `<path d="M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z"/>`,
	"auto":     `<circle cx="10" cy="10" r="7"/><path d="M10 3v14a7 7 0 0 0 0-14z" fill="currentColor"/>`,
	"copy":     `<rect x="7" y="7" width="10" height="10" rx="1.5"/><path d="M13 7V4.5A1.5 1.5 0 0 0 11.5 3h-7A1.5 1.5 0 0 0 3 4.5v7A1.5 1.5 0 0 0 4.5 13H7"/>`,
	"key":      `<circle cx="6.5" cy="13.5" r="3.5"/><path d="m9 11 7.5-7.5M13.5 6.5l2.5 2.5"/>`,
	"programs": `<path d="M6.5 5.5 2 10l4.5 4.5M13.5 5.5 18 10l-4.5 4.5M11.3 4.5 8.7 15.5"/>`,
	"gateways": `<path d="M2.5 17V8.5a7.5 7.5 0 0 1 15 0V17M6.5 17V9a3.5 3.5 0 0 1 7 0v8M1.5 17h17"/>`,
	"explain":  `<circle cx="10" cy="10" r="7.5"/><path d="M7.8 7.8a2.2 2.2 0 1 1 3.3 1.9c-.7.4-1.1.9-1.1 1.7M10 14h.01"/>`,
}

// icon draws an icon that says nothing to a screen reader: there is always a word beside it.
func icon(name string) (template.HTML, error) {
	shape, ok := icons[name]
	if !ok {
		return "", fmt.Errorf("no icon %q", name)
	}
	return template.HTML(`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">` + shape + `</svg>`), nil
}
