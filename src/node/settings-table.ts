/**
 * What each peer may choose for itself, in one table. It feeds the parser and the types (settings.ts) and docs/CONFIG.md.
 *
 * What all peers must agree on is in cluster.ts.
 */
import { LOG_LEVELS } from './system.ts'

export interface Setting {
  kind: 'duration' | 'size' | 'rate' | 'count' | 'list' | 'choice' | 'path' | 'flag'
  default: string | number | boolean | readonly string[]
  meaning: string
  caveat?: string
  /** For a choice: what may be chosen. */
  choices?: readonly string[]
  /** For a count: the bounds, both included. */
  min?: number
  max?: number
  /** For a duration: the longest that other peers take (src/directory/limits.ts). */
  longest?: string
}

export const DEFAULTS = {
  network: {
    listen: {
      kind: 'list',
      default: ['/ip4/0.0.0.0/tcp/0'],
      meaning: 'Addresses to listen on for other peers. An empty list: this peer dials others and cannot be dialled.',
      caveat: 'Port 0 lets the system choose; name a port on a peer that others start from. `--listen` replaces it.'
    },
    announce: {
      kind: 'list',
      default: [],
      meaning: 'Addresses to tell other peers instead of those that this peer finds itself.',
      caveat: 'For a peer behind a router with a forwarded port. `--announce` replaces it.'
    },
    bootstrap: {
      kind: 'list',
      default: [],
      meaning: 'Addresses of peers to join the network through, each ending in `/p2p/PEER-ID`.',
      caveat: 'One that answers is enough; `--bootstrap` replaces it.'
    },
    lan: {
      kind: 'choice',
      choices: ['on', 'off'],
      default: 'on',
      meaning: 'Whether this peer looks for others on its own network (mDNS), and lets them find it.',
      caveat:
        'Only where it listens on an address of that network; a peer on loopback, or with `--no-listen`, stays silent.'
    },
    relays: {
      kind: 'choice',
      choices: ['on', 'off'],
      default: 'on',
      meaning: 'Whether this peer lets itself be called through relays when nobody on the Internet can dial it.',
      caveat: 'Relays are other peers with a public address; they see who calls whom, and nothing of what is said.'
    },
    portMapping: {
      kind: 'choice',
      choices: ['on', 'off'],
      default: 'on',
      meaning: 'Whether this peer asks its router (UPnP) for a port when nobody on the Internet can dial it.',
      caveat: 'Only where it listens on an address of the local network. The port is given back when it stops.'
    }
  },
  relay: {
    reservations: {
      kind: 'count',
      default: 32,
      min: 0,
      max: 256,
      meaning: 'The most peers that may be called through this one because nobody can dial them; 0: none.',
      caveat:
        'Only a peer that others were found to dial is a relay. A relayed connection carries 128 KiB for two minutes at most, ' +
        'enough to call back.'
    },
    blocks: {
      kind: 'flag',
      default: false,
      meaning: 'Whether blocks may pass through this relay, for two peers of which neither can be dialled.',
      caveat:
        'What passes crosses the line of this peer twice, and is not counted by `[swarm] maxUpload`. On a metered line, and outside the hours, this peer is no relay.'
    },
    maxCircuit: {
      kind: 'size',
      default: '256MB',
      meaning: 'The most that one relayed connection may carry then, both ways together.',
      caveat: 'Less than 1 MiB is as none. Whoever needs more has to call again.'
    },
    maxRate: {
      kind: 'rate',
      default: '10Mbit',
      meaning: 'The most that all relayed connections may carry together, both ways.'
    }
  },
  directory: {
    serve: {
      kind: 'choice',
      choices: ['auto', 'always', 'never'],
      default: 'auto',
      meaning: 'Whether this peer keeps directory records for others.',
      caveat:
        '`auto`: once other peers have confirmed that it can be dialled. `always` is for peers with a public address and for tests.'
    },
    latestTtl: {
      kind: 'duration',
      default: '7d',
      longest: '90d',
      meaning:
        'How long the signed record of an appliance is valid; the publisher renews it daily, or at a third of this if that is sooner.',
      caveat: 'Once it has expired, nobody attaches anything new of the appliance without `--allow-expired`.'
    },
    replicaTtl: {
      kind: 'duration',
      default: '1h',
      longest: '1d',
      meaning: 'How long a replica stays announced; renewed at a third of this.',
      caveat: 'Shorter finds dead replicas sooner, and costs messages.'
    },
    sharerTtl: {
      kind: 'duration',
      default: '30m',
      longest: '1d',
      meaning:
        'How long this peer counts as a user of a version after it was last heard of, while a machine of it is attached; renewed at a third of this.',
      caveat: 'Other peers refuse leases that hold for longer than a day.'
    },
    keepTtl: {
      kind: 'duration',
      default: '60d',
      longest: '90d',
      meaning: 'The same while a machine with layers of its own exists, attached or not.',
      caveat: 'Shorter, and a version may be removed while a computer that has a machine of it is switched off.'
    },
    memory: {
      kind: 'size',
      default: '64MiB',
      meaning: 'The most that directory records kept for others may take.',
      caveat: 'Very small values make this peer a poor holder: what it has no room for, others must keep.'
    }
  },
  gc: {
    grace: {
      kind: 'duration',
      default: '7d',
      meaning:
        'How long a version of yours stays at least: since it was published, since no channel points at it, and since ' +
        'it was last seen in use.',
      caveat:
        'It must be seen unused in every poll for that long, or for two `[directory] sharerTtl` if that is longer, ' +
        'which only a daemon that keeps running can do.'
    },
    automatic: {
      kind: 'flag',
      default: false,
      meaning: 'Whether this peer removes unused versions of your appliances by itself, as `rowan gc` does.',
      caveat: 'Otherwise it only says in its log, and in `rowan releases`, what could go.'
    }
  },
  pool: {
    quota: {
      kind: 'size',
      default: '50GB',
      meaning: 'The most that verified blocks may take on this disk.',
      caveat:
        'Layers of machines do not count. When it is nearly full, blocks that are neither pinned (of local machines, ' +
        'replicated images, own releases) nor of a current release go first, the longest unused before others. A smaller ' +
        'quota evicts down to it at the next start. Where pinned blocks fill it, a guest still gets its blocks, but they ' +
        'are not kept. Files shrink in steps of 256 MiB, when a whole one is empty.'
    }
  },
  machine: {
    layerQuota: {
      kind: 'size',
      default: 'unlimited',
      meaning: 'The most that the layers of one machine, those of its snapshots included, may take on this disk.',
      caveat:
        'The log of its latest writes, up to 32 MiB a disk, counts too. ' +
        'At the quota writes to new places are refused: ENOSPC over NBD, which QEMU has to tell its guest as an I/O error; nothing before is lost, and ' +
        'what it has written it can write again. In any case the last 16 MiB of the disk are left free.'
    }
  },
  swarm: {
    maxUpload: {
      kind: 'rate',
      default: 'unlimited',
      meaning: 'The most that is sent to other peers.',
      caveat:
        'Very low values make this peer a slow replica that others avoid. `--max-upload` and `rowan limit` go before it.'
    },
    maxCourtesyUpload: {
      kind: 'rate',
      default: '10Mbit',
      meaning:
        'The most of it that goes to peers beyond the local network of images that are here for machines alone, neither published nor replicated: what a volunteer gives back.',
      caveat: 'What is below demand also gives way to whatever else is on the line, whatever the limit.'
    },
    maxDownload: {
      kind: 'rate',
      default: 'unlimited',
      meaning: 'The most that is fetched from other peers.',
      caveat: 'It also holds for blocks that a guest is waiting for. `--max-download` and `rowan limit` go before it.'
    },
    hours: {
      kind: 'list',
      default: [],
      meaning:
        'The hours of the day, local time, in which this peer takes part, like `["22:00-07:00"]`. Empty: always.',
      caveat:
        'Outside them only what a guest waits for and reads on to is fetched, and only peers on the local network are served.'
    },
    metered: {
      kind: 'choice',
      choices: ['no', 'yes'],
      default: 'no',
      meaning: 'Whether each byte on this line costs money: then the same holds at all hours.'
    },
    shareProfile: {
      kind: 'choice',
      choices: ['auto', 'always', 'never'],
      default: 'auto',
      meaning: "Whether other peers may have this peer's recordings of boots, so that theirs are faster.",
      caveat:
        '`auto`: those of own releases and of replicated images, and nothing of what this peer only uses. A profile that a ' +
        'release came with is passed on in any case.'
    },
    maxPeers: {
      kind: 'count',
      default: 64,
      min: 1,
      max: 4096,
      meaning: 'The most peers that blocks are exchanged with at a time.',
      caveat: 'Each costs memory for what is in flight.'
    }
  },
  nbd: {
    tlsFolder: {
      kind: 'path',
      default: 'tls',
      meaning:
        'The folder with what `rowan attach --tcp` needs: `ca-cert.pem`, `server-cert.pem` and `server-key.pem`, or `keys.psk`.',
      caveat:
        'Relative to the home. With certificates, clients need one of the same authority; `keys.psk` has a line `NAME:KEY` for each ' +
        'client, the key in hexadecimal. Secrets must have mode 0600. It is read when a machine is attached.'
    }
  },
  log: {
    level: {
      kind: 'choice',
      choices: LOG_LEVELS,
      default: 'info',
      meaning: 'The least important messages that `rowan up` writes to stderr.'
    }
  }
} as const satisfies Record<string, Record<string, Setting>>
