package admin

// ImportRow is what becomes of one row of a file.
type ImportRow struct {
	Place  string `json:"place" doc:"where it stands in the file"`
	User   string `json:"user" doc:"login; of a token that goes into the stock: empty"`
	Serial string `json:"serial,omitempty" doc:"of a token"`
	Result string `json:"result" enum:"add,stock,update,same,refused"`
	Detail string `json:"detail,omitempty" doc:"why it is refused, or what is to know about it"`
}

// ImportSummary is how an import ended.
type ImportSummary struct {
	Written      bool   `json:"written" doc:"false: nothing of it was"`
	DryRun       bool   `json:"dry_run"`
	Rows         int    `json:"rows"`
	Added        int    `json:"added" doc:"tokens of users, or users"`
	Stock        int    `json:"stock" doc:"tokens that belong to nobody yet"`
	Updated      int    `json:"updated"`
	Same         int    `json:"same" doc:"users who are already what the file says"`
	Refused      int    `json:"refused"`
	UsersCreated int    `json:"users_created" doc:"for tokens whose user was not there"`
	Kept         string `json:"-"` // id of an import that waits to be committed; "": none
	Error        string `json:"error,omitempty" doc:"why nothing was written, or the file could not be read to its end"`
}

// ImportLine is a line of the answer to an import: one of the two.
type ImportLine struct {
	Row     *ImportRow     `json:"row,omitempty"`
	Summary *ImportSummary `json:"summary,omitempty" doc:"the last line"`
}

// NewExport asks for tokens with their secrets, encrypted.
type NewExport struct {
	Recipients []string `json:"recipients" minItems:"1" maxItems:"20" nullable:"false" doc:"of age: age1…"`
	Format     string   `json:"format,omitempty" enum:"csv,pskc,otpauth" default:"csv"`
	Users      []string `json:"users,omitempty" maxItems:"1000" doc:"logins; absent: everybody, and the stock"`
}

// TokenAssignment names a token in the stock.
type TokenAssignment struct {
	Serial string `json:"serial" minLength:"1" maxLength:"256"`
	First  string `json:"first,omitempty" maxLength:"20" doc:"two codes in a row prove that the person holds it; both absent: nothing proves it"`
	Second string `json:"second,omitempty" maxLength:"20"`
}
