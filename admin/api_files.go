package admin

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

type filesInput struct {
	ID      string `path:"id" maxLength:"100"`
	Channel int    `query:"channel" minimum:"0" maximum:"9999" doc:"0: all"`
	After   string `query:"after" maxLength:"30" doc:"id: the lines that follow this one"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (s *Server) fileRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}/files", "session-files", "List the files that a session transferred, in the order in which that began"),
		func(ctx context.Context, _ Caller, in *filesInput) (*body[[]File], error) {
			files, err := s.fileList(ctx, store.TransferFilter{SessionID: in.ID, Channel: in.Channel, After: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return answer(list(files, wireFile)), nil
		})
	op := route(needAuditor, http.MethodGet, "/sessions/{id}/files.csv", "session-files-csv", "The whole ledger of a session's files as CSV")
	op.Responses = map[string]*huma.Response{"200": {Description: "The list, with a line of heads.", Content: map[string]*huma.MediaType{"text/csv": {}}}}
	register(s, api, op, func(_ context.Context, _ Caller, in *byID) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			s.streamExport(hc, &lateHeader{hc: hc, mime: mimeCSV, name: in.ID + "-files.csv"}, func(ctx context.Context, w io.Writer) error {
				return s.writeFiles(ctx, w, in.ID)
			})
		}}, nil
	})
}
