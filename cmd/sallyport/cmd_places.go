package main

import (
	"github.com/spf13/cobra"

	"sallyport/admin"
)

// userPlace is a row of `user places`.
type userPlace struct {
	admin.Place
	what string
}

func userPlacesCommand(g *globals) *cobra.Command {
	return action(g, "places LOGIN", "List the addresses from which a user signed in, or was refused", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			var p admin.UserPlaces
			if err := api.get(c.Context(), route("users", args[0], "places"), nil, &p); err != nil {
				return err
			}
			if g.json() {
				return g.printJSON(p)
			}
			var rows []userPlace
			for _, x := range p.SignedIn {
				rows = append(rows, userPlace{x, "signed in"})
			}
			for _, x := range p.Refused {
				rows = append(rows, userPlace{x, "refused"})
			}
			return printList(g, rows, "Nobody has signed in, or tried to, as this user.", []string{"ADDRESS", "WHAT", "COUNT", "FIRST", "LAST"},
				func(r userPlace) []string {
					return []string{r.Source, r.what, itoa(r.Count), clock(r.First), clock(r.Last)}
				})
		})
}
