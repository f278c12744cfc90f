// The script of the invitation: takes the token from the link's fragment, which no server and no log gets to see, and
// shows who it invites, or why it does not.

const token = location.hash.slice(1);
if (token) {
  document.getElementById("token").value = token;
  document.getElementById("token-field").hidden = true;
  history.replaceState(null, "", location.pathname);
  const response = await fetch(location.pathname, { method: "POST", body: new URLSearchParams({ token }) });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const told = page.querySelector("#invited, [role=alert]");
  if (told) document.querySelector("h1").after(document.adoptNode(told));
}
