package store

import "context"

// SetContact replaces e-mail address and telephone number of a user.
func (s Users) SetContact(ctx context.Context, u User, email, phone string) error {
	return s.update(ctx, "setting the addresses of user "+u.ID, "email = ?, phone = ?, search = ? WHERE id = ?",
		email, phone, searchText(u.Login, u.Name, email), u.ID)
}

// SetCodeBy says how codes are sent to a user: ByMail, BySMS, "off", or "" as the configuration says.
func (s Users) SetCodeBy(ctx context.Context, id, by string) error {
	return s.update(ctx, "setting how codes are sent to user "+id, "code_by = ? WHERE id = ?", by, id)
}
