package admin

import (
	"strings"
	"time"

	"sallyport/internal/web"
	"sallyport/store"
)

// radiusView is a RADIUS client as the page shows it.
type radiusView struct {
	RadiusClient
	Path     string
	LastSeen time.Time
	Accepted int64
	Refused  int64
	Findings []radiusFinding
	Audit    string // where its events are listed
}

// radiusFinding is a finding as the page words it.
type radiusFinding struct {
	Level, Text, Hint string
	Change            bool // the client has to be changed, which the page does
}

// onPage words findings for the page: what they say to type is done there by links and buttons.
func onPage(findings []RadiusFinding) []radiusFinding {
	var list []radiusFinding
	for _, f := range findings {
		before, _, change := strings.Cut(f.Hint, "sallyport radius client ")
		hint := strings.ReplaceAll(before, "at: sallyport radius strangers", "at the strangers below")
		hint = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(hint, " :,"), "then"), " :,")
		change = change && before != ""
		if hint = web.Sentence(hint); change {
			hint = strings.TrimSuffix(hint, ".") + ":"
		}
		list = append(list, radiusFinding{f.Level, f.Text, hint, change})
	}
	return list
}

type radiusData struct {
	Rows      []radiusView
	Strangers []store.RadiusCount
}

func (s *Server) radiusPage(v *visit) error {
	clients, err := s.cfg.Store.RadiusClients.List(v.ctx())
	if err != nil {
		return err
	}
	counts, err := s.cfg.Store.RadiusClients.Counts(v.ctx(), nil)
	if err != nil {
		return err
	}
	of := map[string]heard{}
	for _, n := range counts {
		if of[n.ClientID] == nil {
			of[n.ClientID] = heard{}
		}
		of[n.ClientID][n.Kind] = n
	}
	var d radiusData
	for _, c := range clients {
		h := of[c.ID]
		row := radiusView{RadiusClient: wireRadiusClient(c), Path: within("radius", c.Name), Accepted: h.times("accept"), Refused: h.times("reject"), Findings: onPage(h.findings(c)), Audit: address("/audit", "target", c.Name)}
		for _, n := range h {
			if n.Last.After(row.LastSeen) {
				row.LastSeen = n.Last
			}
		}
		d.Rows = append(d.Rows, row)
	}
	for _, n := range of[""] {
		d.Strangers = append(d.Strangers, n)
	}
	v.show("radius", web.Page{Title: "RADIUS", Section: "radius", Data: d})
	return nil
}

func (s *Server) setRadiusForm(enabled bool) func(*visit) error {
	return func(v *visit) error {
		c, err := s.changeRadiusClient(v.ctx(), v.by, v.path("name"), RadiusClientChange{Enabled: &enabled})
		switch {
		case err != nil:
			return err
		case enabled:
			return v.done("/radius", "%s is answered again.", c.Client.Name)
		}
		return v.done("/radius", "%s is answered no more.", c.Client.Name)
	}
}

func (s *Server) confirmDeleteRadiusPage(v *visit) error {
	c, err := s.radiusClient(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	return v.confirm("radius", "Remove a RADIUS client", confirmation{
		Question: "Remove the RADIUS client " + c.Name + "?", Consequence: "It is answered no more, its secret is forgotten, and so is what was counted of it. The audit log stays.",
		Action: within("radius", c.Name, "delete"), Button: "Remove " + c.Name, Cancel: "/radius",
	})
}

func (s *Server) deleteRadiusForm(v *visit) error {
	if err := s.deleteRadiusClient(v.ctx(), v.by, v.path("name")); err != nil {
		return err
	}
	return v.done("/radius", "The RADIUS client was removed.")
}
