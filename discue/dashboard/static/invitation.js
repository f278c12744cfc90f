// The script of the invitation: takes the token from the link's fragment, which no server and no log gets to see.

const token = location.hash.slice(1);
if (token) {
  document.getElementById("token").value = token;
  document.getElementById("token-field").hidden = true;
  history.replaceState(null, "", location.pathname);
}
