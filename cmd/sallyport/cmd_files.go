package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

// filesPage is how many lines of a ledger are asked for at a time.
const filesPage = 1000

func sessionFilesCommand(g *globals) *cobra.Command {
	var channel int
	var csv bool
	c := action(g, "files ID", "List the files that a session transferred, with sizes and SHA-256", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if csv {
			return api.stream(c.Context(), route("sessions", args[0], "files.csv"), nil, g.Out)
		}
		files := []admin.File{}
		q := url.Values{"limit": {itoa(filesPage)}, "channel": {itoa(channel)}}
		for {
			var page []admin.File
			if err := api.get(c.Context(), route("sessions", args[0], "files"), q, &page); err != nil {
				return err
			}
			files = append(files, page...)
			if len(page) < filesPage {
				break
			}
			q.Set("after", page[len(page)-1].ID)
		}
		return printList(g, files, "No files were transferred.", []string{"ID", "STARTED", "OPERATION", "PATH", "BYTES", "SHA-256", "RESULT", "DETAIL"}, fileCells)
	})
	c.Flags().IntVar(&channel, "channel", 0, "number of a channel (default: all)")
	c.Flags().BoolVar(&csv, "csv", false, "all of it as CSV")
	c.MarkFlagsMutuallyExclusive("channel", "csv")
	return c
}

func fileCells(f admin.File) []string {
	path := f.Path
	if f.NewPath != "" {
		path += " -> " + f.NewPath
	}
	bytes := ""
	if f.Operation == "read" || f.Operation == "write" {
		bytes = byteCount(f.Bytes)
	}
	return []string{f.ID, clock(f.Started), f.Operation, audit.Escape(path), bytes, f.SHA256, f.Result, f.Detail}
}
