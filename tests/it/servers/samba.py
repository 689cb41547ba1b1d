"""People, groups and the broker's account of a domain that was just provisioned; or one more rule of access.

Usage: samba.py SMB_CONF seed BROKER_PASSWORD | samba.py SMB_CONF access DN ACE
An ACE names the broker as `BROKER`.
"""

import sys

from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
from samba.sd_utils import SDUtils

MEMBER = "bf9679c0-0de6-11d0-a285-00aa003049e2"
MARK = "bf967972-0de6-11d0-a285-00aa003049e2"  # extensionName
GROUP = "bf967a9c-0de6-11d0-a285-00aa003049e2"

conf, what, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
lp = LoadParm()
lp.load(conf)
db = SamDB(url=lp.samdb_url(), session_info=system_session(lp), lp=lp)
base = db.domain_dn()
rules = SDUtils(db)


def broker():
    return str(rules.get_object_sid(f"CN=tidegate,CN=Users,{base}"))


if what == "seed":
    for name in ["People", "Groups"]:
        db.create_ou(f"OU={name},{base}")
    for name in ["ana", "ben"]:
        db.newuser(name, "Some-Pass-8812", userou="OU=People")
    db.newuser("tidegate", rest[0])
    # What the sheet says that the broker needs, and nothing else; inherited by the groups below.
    for attribute in [MEMBER, MARK]:
        rules.dacl_add_ace(f"OU=Groups,{base}", f"(OA;CIIO;RPWP;{attribute};{GROUP};{broker()})")
    for name in ["ops", "empty", "hidden"]:
        db.newgroup(name, groupou="OU=Groups")
    db.add_remove_group_members("ops", ["ben"])
else:
    dn, ace = rest
    rules.dacl_add_ace(dn, ace.replace("BROKER", broker()))
