// scimmy-routers over a Map: the second server that Tidegate's SCIM is measured beside. Usage: node scimmy_server.mjs PORT
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const users = new Map();
let next = 1;
SCIMMY.Resources.declare(SCIMMY.Resources.User)
  .ingress(async (resource, data) => {
    const id = resource.id ?? String(next++);
    for (const [other, user] of users) {
      if (other !== id && user.userName === data.userName) throw new SCIMMY.Types.Error(409, "uniqueness", "taken");
    }
    const user = { ...JSON.parse(JSON.stringify(data)), id };
    users.set(id, user);
    return user;
  })
  .egress(async (resource) => (resource.id ? users.get(resource.id) : [...users.values()]))
  .degress(async (resource) => void users.delete(resource.id));
const app = express();
app.use("/scim/v2", new SCIMMYRouters({ type: "bearer", handler: () => "bench" }));
app.listen(Number(process.argv[2]), "127.0.0.1");
