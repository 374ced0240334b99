"""Which command lines lead to which adapter: docker's and podman's spellings of each.

For every adapter (``module.function`` of :mod:`podpy.cli`) the paths that call
it.  The first path of a group is the one its help shows.
"""

from __future__ import annotations

# Options of these end at the first argument: what follows belongs to somebody else's command.
RUNNING = ("run.run", "run.create", "run.exec_", "containers.top")

GROUPS = {
    "container": "Work with containers.",
    "image": "Work with images.",
    "network": "Work with networks.",
    "volume": "Work with volumes.",
    "builder": "Build images, and look after the cache of builds.",
    "buildx": "The same under the name of docker's plugin.",
    "system": "Look after podpy itself.",
}

COMMANDS: dict[str, tuple[str, ...]] = {
    "run.run": ("run", "container run"),
    "run.create": ("create", "container create"),
    "run.start": ("start", "container start"),
    "run.attach": ("attach", "container attach"),
    "run.exec_": ("exec", "container exec"),
    "ps.ps": ("ps", "container ls", "container list", "container ps"),
    "containers.stop": ("stop", "container stop"),
    "containers.kill": ("kill", "container kill"),
    "containers.restart": ("restart", "container restart"),
    "containers.pause": ("pause", "container pause"),
    "containers.unpause": ("unpause", "container unpause"),
    "containers.rm": ("rm", "container rm"),
    "containers.wait": ("wait", "container wait"),
    "containers.rename": ("rename", "container rename"),
    "containers.top": ("top", "container top"),
    "containers.port": ("port", "container port"),
    "containers.prune": ("container prune",),
    "containers.exists": ("container exists",),
    "logs.logs": ("logs", "container logs"),
    "inspect.inspect": ("inspect",),
    "inspect.container": ("container inspect",),
    "inspect.image": ("image inspect",),
    "inspect.volume": ("volume inspect",),
    "inspect.network": ("network inspect",),
    "images.ls": ("images", "image ls", "image list"),
    "images.rm": ("rmi", "image rm", "image remove"),
    "images.tag": ("tag", "image tag"),
    "images.untag": ("untag", "image untag"),
    "images.history": ("history", "image history"),
    "images.load": ("load", "image load"),
    "images.save": ("save", "image save"),
    "images.import_": ("import", "image import"),
    "images.exists": ("image exists",),
    "images.prune": ("image prune",),
    "builds.build": ("build", "image build", "builder build", "buildx build", "buildx b"),
    "builds.prune": ("builder prune", "buildx prune"),
    "builds.du": ("buildx du", "builder du"),
    "transfer.pull": ("pull", "image pull"),
    "transfer.push": ("push", "image push"),
    "transfer.login": ("login",),
    "transfer.logout": ("logout",),
    "volumes.create": ("volume create",),
    "volumes.ls": ("volume ls", "volume list"),
    "volumes.rm": ("volume rm", "volume remove"),
    "volumes.prune": ("volume prune",),
    "volumes.exists": ("volume exists",),
    "networks.create": ("network create",),
    "networks.ls": ("network ls", "network list"),
    "networks.rm": ("network rm", "network remove"),
    "networks.prune": ("network prune",),
    "networks.exists": ("network exists",),
    "networks.connect": ("network connect",),
    "networks.disconnect": ("network disconnect",),
    "networks.update": ("network update",),
    "networks.reload": ("network reload",),
    "events.events": ("events", "system events"),
    "system.version": ("version",),
    "system.info": ("info", "system info"),
}
