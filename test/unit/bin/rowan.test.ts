import { once } from 'node:events'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import type { CommandTable } from '../../../src/node/daemon-api.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { findTool } from '../../tools/need.ts'
import { endProcesses, run, start } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'
import { DaemonDouble, ROWAN } from './daemon-double.ts'

let daemon: DaemonDouble | undefined

afterEach(async () => {
  await endProcesses()
  await daemon?.stop()
  daemon = undefined
  await removeFolders()
})

async function serve(commands: CommandTable): Promise<DaemonDouble> {
  daemon = await DaemonDouble.start(commands)
  return daemon
}

const PEER = '12D3KooWGRUVh7V7vPBrNLBLoCbcxhFpqNRk8p8d7LJhYfMXRmQM'

const PUBLISHED = {
  appliance: '12D3KooWAbcdefghijklmnop/grid',
  version: 'v1',
  image: 'a'.repeat(64),
  size: 1.5e9,
  blocks: 22_889,
  zeroBlocks: 10_000,
  newBlocks: 5,
  seconds: 1.5
}

test('the peer outlives whoever reads its messages', async () => {
  const home = await temporaryFolder()
  const peer = start(ROWAN, ['up', '--json', '--home', home, '--listen', '/ip4/127.0.0.1/tcp/0'])
  await peer.waitForOutput(/^\{.*\}$/m)
  peer.child.stderr?.destroy()
  // Stopping writes a line.
  expect(await peer.stop('SIGTERM')).toEqual({ status: 0, signal: null })
})

test('the peer outlives a promise that a library forgot, and says so', async () => {
  const home = await temporaryFolder()
  const forget = 'process.on("SIGUSR2",()=>{Promise.reject(new(Error)("forgotten"))})'
  const env = { ...process.env, NODE_OPTIONS: `--import=data:text/javascript,${forget.replaceAll('"', '%22')}` }
  const peer = start(ROWAN, ['up', '--json', '--home', home, '--listen', '/ip4/127.0.0.1/tcp/0'], { env })
  await peer.waitForOutput(/^\{.*\}$/m)
  peer.kill('SIGUSR2')
  await peer.waitForOutput(/nobody handled.*INTERNAL.*forgotten/, { from: 'stderr' })
  expect(await peer.stop('SIGTERM')).toEqual({ status: 0, signal: null })
})

test('snapshot, export and attach ask for what was said, and leave out what was not', async () => {
  const taken = { machine: 'm', snapshot: 's1', note: '', taken: '2026-01-02T03:04:05.678Z' }
  const exported = { machine: 'm', file: '/x/disk.raw', format: 'raw', size: 1e9, data: 1e6, seconds: 1 }
  const attached = {
    machine: 'm',
    appliance: 'P/grid',
    version: 'v1',
    image: '',
    size: 1e9,
    uri: 'u',
    tcpUri: null,
    created: true
  }
  const double = await serve({
    snapshot: async () => taken,
    export: async () => exported,
    attach: async () => ({ ...attached, readOnly: false, data: { size: 2e10, uri: 'nbd+unix:///m/data?socket=s' } })
  })
  expect((await double.rowan(['snapshot', 'm'])).stdout).toBe('m has the snapshot s1\n')
  await double.rowan(['snapshot', 'm', '--note', 'before'])
  await double.rowan(['export', 'm', '/x/disk.raw'])
  await double.rowan(['export', 'm', '/x/disk.raw', '--format', 'qcow2', '--snapshot', 's1', '--disk', 'data'])
  const { stdout } = await double.rowan(['attach', 'grid', '--as', 'm', '--data-disk', '20GB'])
  expect(stdout).toMatch(/data disk +20 GB, nbd\+unix:\/\/\/m\/data/)
  const wrong = await double.rowan(['attach', 'grid', '--as', 'm', '--data-disk', 'large'])
  expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringMatching(/Write it like 20GB/)])
  expect(double.asked).toEqual([
    ['snapshot', { machine: 'm' }],
    ['snapshot', { machine: 'm', note: 'before' }],
    ['export', { machine: 'm', file: '/x/disk.raw', format: 'raw', disk: 'system' }],
    ['export', { machine: 'm', file: '/x/disk.raw', format: 'qcow2', disk: 'data', snapshot: 's1' }],
    ['attach', expect.objectContaining({ machine: 'm', dataDisk: 20e9 })]
  ])
})

test('attach takes the name of a machine that exists; a new one needs a name', async () => {
  const attached = { machine: 'm', appliance: 'P/grid', version: 'v1', image: '', size: 1e9, uri: 'u', tcpUri: null }
  const double = await serve({
    attach: async params => {
      const { machine } = params as { machine: string }
      if (machine !== 'm') throw new RowanError(machine === 'grid' ? 'MACHINE_UNKNOWN' : 'NAME_INVALID', 'no')
      return { ...attached, readOnly: false, created: false }
    }
  })
  expect((await double.rowan(['attach', 'm'])).status).toBe(0)
  expect((await double.rowan(['attach', 'm', '--read-only', '--tcp', 'none'])).status).toBe(0)
  expect(double.asked).toEqual([
    ['attach', { machine: 'm', allowExpired: false }],
    ['attach', { machine: 'm', allowExpired: false, readOnly: true, tcp: 'none' }]
  ])
  for (const name of ['grid', '12D3KooWAbcdefghijklmnop/grid@v1']) {
    const refused = await double.rowan(['attach', name])
    expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining(`no machine "${name}"; `)])
    expect(refused.stderr).toMatch(/--as MACHINE \[USAGE\]$/m)
  }
})

describe('the answer', () => {
  test('with --json is one JSON value on stdout and nothing else; progress goes to stderr', async () => {
    const { rowan } = bound(
      await serve({
        publish: async (_params, { progress }) => {
          for (let done = 0; done <= 100; done++) progress({ phase: 'hashing', done, of: 100, unit: 'bytes' })
          return PUBLISHED
        }
      })
    )
    for (const args of [
      ['--json', 'publish', 'disk.raw', 'grid@v1'],
      ['publish', 'disk.raw', 'grid@v1', '--json']
    ]) {
      const { status, stdout, stderr } = await rowan(args)
      expect(status, stderr).toBe(0)
      expect(JSON.parse(stdout)).toEqual(PUBLISHED)
      expect(stderr.trim().split('\n')).toHaveLength(11)
      expect(stderr).toContain('hashing: 50 %, 50 B of 100 B\n')
    }
  })

  test('without is for a person', async () => {
    const { rowan } = bound(await serve({ publish: async () => PUBLISHED }))
    const { stdout } = await rowan(['publish', 'disk.raw', 'grid@v1'])
    expect(stdout).toMatch(/published +12D3KooWAbcdefghijklmnop\/grid@v1/)
    expect(stdout).toContain('1.5 GB in 22889 blocks, 12889 of them with data')
    expect(stdout).toMatch(/^new +5 blocks not here before$/m)
  })
})

describe('what the daemon is asked', () => {
  test.each<[string, string[], string, object]>([
    ['publish', ['publish', 'd/disk.raw', 'grid@v1'], 'publish', { path: 'd/disk.raw', name: 'grid', version: 'v1' }],
    [
      'publish with all',
      [
        'publish',
        '/disk.raw',
        'grid@v1',
        '--channel',
        'testing',
        '--rollout',
        '10',
        '--label',
        'a=b',
        '--label',
        'c=d=e'
      ],
      'publish',
      { path: '/disk.raw', name: 'grid', version: 'v1', channel: 'testing', rollout: 10, labels: { a: 'b', c: 'd=e' } }
    ],
    [
      'replicate',
      ['replicate', 'grid@v1', '--wait'],
      'replicate',
      { appliance: 'grid@v1', wait: true, allowExpired: false }
    ],
    ['replicate end', ['replicate', 'grid@v1', '--end'], 'replicate-end', { appliance: 'grid@v1' }],
    [
      'attach',
      ['attach', 'grid:testing', '--as', 'm', '--allow-expired'],
      'attach',
      { machine: 'm', appliance: 'grid:testing', readOnly: false, allowExpired: true }
    ],
    ['detach', ['detach', 'm'], 'detach', { machine: 'm' }],
    ['remove', ['remove', 'm', '--yes', '--force'], 'remove', { machine: 'm', force: true }],
    ['releases', ['releases', 'grid'], 'releases', { appliance: 'grid' }],
    ['follow', ['follow', 'p/grid', '--as', 'g'], 'follow', { appliance: 'p/grid', alias: 'g' }],
    ['key export', ['key', 'export', 'k'], 'key-export', { file: 'k' }],
    ['key import', ['key', 'import', '/k', '--replace'], 'key-import', { file: '/k', replace: true }],
    ['key rotate', ['key', 'rotate'], 'key-rotate', {}]
  ])('%s', async (_what, args, command, params) => {
    const { rowan, double } = bound(
      await serve({ [command]: async () => (command === 'releases' ? [] : { ended: [] }) })
    )
    const cwd = await temporaryFolder()
    const { status, stderr } = await rowan([...args, '--json'], { cwd })
    expect(status, stderr).toBe(0)
    // Paths are the caller's: the daemon works somewhere else.
    const absolute = Object.fromEntries(
      Object.entries(params).map(([name, value]) => [
        name,
        ['path', 'file'].includes(name) && !(value as string).startsWith('/') ? join(cwd, value as string) : value
      ])
    )
    expect(double.asked).toEqual([[command, absolute]])
  })
})

describe('failure', () => {
  test('is one line with its code, what to do on the next, and status 1', async () => {
    const { rowan } = bound(
      await serve({
        status: async () => {
          throw new RowanError('POOL_FULL', 'the pool\u001b has\n5 blocks')
        }
      })
    )
    const text = await rowan(['status'])
    expect(text).toMatchObject({ status: 1, stdout: '' })
    expect(text.stderr).toBe(
      'error: the pool  has 5 blocks [POOL_FULL]\nRaise `[pool] quota`, or remove machines and replicas.\n'
    )
    const json = await rowan(['status', '--json'])
    expect(json).toMatchObject({ status: 1, stderr: text.stderr })
    expect(JSON.parse(json.stdout)).toMatchObject({
      error: { code: 'POOL_FULL', message: 'the pool\u001b has\n5 blocks' }
    })
  })

  test('wrong usage has status 2, names what is wrong, and writes nothing to stdout', async () => {
    const home = await temporaryFolder()
    for (const [args, says] of [
      [['fly'], "unknown command 'fly'"],
      [['stats'], 'Did you mean status?'],
      [['publish'], 'missing required argument'],
      [['attach', 'grid', '--as'], '--as'],
      [['status', '--fast'], '--fast'],
      [['detach', 'a', 'b'], 'too many arguments'],
      [['publish', 'disk', 'grid'], 'grid@v1'],
      [['publish', 'disk', 'a/b@c/d@e'], 'appliance'],
      [['publish', 'disk', 'grid@v1', '--rollout', 'all'], '1 to 100'],
      [['run', 'm', '-m', '4096'], '-m'],
      [['run', 'm', 'extra'], 'behind --'],
      [['run', 'm', '--net', 'all'], 'none, restricted, user'],
      [['key', 'turn'], 'turn'],
      [['publish', '', 'grid@v1'], 'empty'],
      [['attach', '', '--as', 'm'], 'appliance is empty'],
      [['limit', '--max-upload', ''], 'maxUpload is empty'],
      [['snapshot', 'm', '--note', 'x'.repeat(5000)], '5000 characters'],
      [['export', '--web', 'grid@v1', 'www', '--format', 'qcow2'], '--format'],
      [['up', '--config', ''], 'empty']
    ] as const) {
      const result = await run(ROWAN, [...args, '--home', home])
      expect(result.status, `${args.join(' ')}: ${result.stderr}`).toBe(2)
      expect(result.stdout).toBe('')
      expect(result.stderr).toContain(says)
      expect(result.stderr.split('\n').filter(line => /^error: .* \[[A-Z_]+\]$/.test(line))).toHaveLength(1)
    }
    const bare = await run(ROWAN, [])
    expect(bare).toMatchObject({ status: 2, stdout: '' })
    expect(bare.stderr).toContain('Usage: rowan')
    for (const args of [['fly', '--json'], ['--json'], ['key', '--json']]) {
      const json = await run(ROWAN, args)
      expect([json.status, JSON.parse(json.stdout)]).toMatchObject([2, { error: { code: 'USAGE' } }])
    }
  })

  test('no daemon: it says how to start one, and makes no home', async () => {
    const home = join(await temporaryFolder(), 'h')
    const result = await run(ROWAN, ['status', '--home', home])
    expect(result.status).toBe(1)
    expect(result.stderr).toMatch(/^error: .*h\/control\.sock \[DAEMON_NOT_RUNNING\]\n.*`rowan up`/)
    expect(await readdir(join(home, '..'))).toEqual([])
  })

  test('an empty --home is not the home of the user', async () => {
    const result = await run(ROWAN, ['status', '--home', ''], {
      env: { ...process.env, HOME: await temporaryFolder() }
    })
    expect([result.status, result.stderr]).toEqual([2, expect.stringMatching(/^error: .* home is empty \[USAGE\]$/m)])
  })

  test('an answer that cannot be written, on a full disk, is a failure in one line', async () => {
    const { double } = bound(await serve({ snapshots: async () => [] }))
    for (const more of [[], ['--json']]) {
      const command = [ROWAN, 'snapshots', 'm', '--home', double.home, ...more].join(' ')
      const result = await run('sh', ['-c', `${command} > /dev/full`])
      expect([result.status, result.stderr]).toEqual([
        1,
        expect.stringMatching(/^error: the answer could not be written: ENOSPC.* \[FILE_UNWRITABLE\]$/m)
      ])
      expect(result.stderr).not.toMatch(/^ +at /m)
    }
  })

  test('the home may come from $ROWAN_HOME', async () => {
    const { double } = bound(await serve({ detach: async () => ({ machine: 'm' }) }))
    const result = await run(ROWAN, ['detach', 'm'], { env: { ...process.env, ROWAN_HOME: double.home } })
    expect(result.status, result.stderr).toBe(0)
  })

  test('a home that is too long for sockets', async () => {
    const home = join(await temporaryFolder(), 'h'.repeat(110))
    for (const args of [['up'], ['status']]) {
      const result = await run(ROWAN, [...args, '--home', home])
      expect(result.status).toBe(1)
      expect(result.stderr).toContain('[SOCKET_PATH_TOO_LONG]')
      expect(result.stderr).toContain(`${home}/control.sock`)
    }
  })

  test('a setting that is wrong keeps `up` from starting, naming file and key', async () => {
    const home = await temporaryFolder()
    await writeFile(join(home, 'config.toml'), '[swarm]\nmaxUplod = "1Mbit"\n')
    const result = await run(ROWAN, ['up', '--home', home])
    expect(result.status).toBe(2)
    expect(result.stderr).toContain(`${home}/config.toml: unknown key [swarm] maxUplod`)
    expect(result.stderr).toContain('[swarm] maxUpload [CONFIG_INVALID]')
    const other = await run(ROWAN, ['up', '--home', home, '--config', join(home, 'no.toml')])
    expect(other.status).toBe(2)
    expect(other.stderr).toContain('no.toml')
  })

  test('an address that is none, or cannot be listened on, keeps `up` from starting: one line, and no stack', async () => {
    const home = join(await temporaryFolder(), 'h')
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    for (const [args, status, says] of [
      [['--listen', 'here'], 2, /^error: listen: 'here' is no address like \S+ \[CONFIG_INVALID\]$/m],
      [['--announce', 'me'], 2, /^error: announce: 'me' is no address like \S+ \[CONFIG_INVALID\]$/m],
      [
        ['--bootstrap', '/ip4/127.0.0.1/tcp/1/p2p/me'],
        2,
        /^error: bootstrap: .*p2p\/me' is no .* \[CONFIG_INVALID\]$/m
      ],
      [
        ['--bootstrap', '/ip4/127.0.0.1/tcp/1'],
        2,
        /^error: bootstrap: '\/ip4\/127.0.0.1\/tcp\/1' does not say who .* \/p2p\/PEER-ID \[CONFIG_INVALID\]$/m
      ],
      [
        ['--bootstrap', `/ip4/127.0.0.1/tcp/1/p2p/${PEER}/p2p-circuit`],
        2,
        /^error: bootstrap: '\S+p2p-circuit' does not say who .* \[CONFIG_INVALID\]$/m
      ],
      [
        ['--listen', `/ip4/127.0.0.1/tcp/${port}`],
        1,
        /^error: cannot listen on \/ip4\/127.0.0.1\/tcp\/\d+: listen EADDRINUSE: address already in use \S+ \[LISTEN_FAILED\]$/m
      ],
      [
        ['--listen', '/ip4/127.0.0.1/udp/0/quic-v1'],
        1,
        /^error: cannot listen on \/ip4\/127.0.0.1\/udp\/0\/quic-v1: only TCP, like \S+, can be listened on \[LISTEN_FAILED\]$/m
      ]
    ] as const) {
      const result = await run(ROWAN, ['up', '--home', home, ...args])
      expect([result.status, result.stderr]).toEqual([status, expect.stringMatching(says)])
      expect(result.stderr).not.toMatch(/^ +at |transportManager/m)
    }
    taken.close()
    const config = join(home, '..', 'other.toml')
    await writeFile(config, '[network]\nbootstrap = ["/dns4/example.org/tcp/4601"]\n')
    const written = await run(ROWAN, ['up', '--home', home, '--config', config])
    expect([written.status, written.stderr]).toEqual([
      2,
      expect.stringMatching(/^error: bootstrap: .* does not say who/)
    ])
  })

  test('the client that is interrupted aborts the command in the daemon', async () => {
    let aborted = false
    const { double } = bound(
      await serve({
        status: (_params, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              aborted = true
              reject(signal.reason)
            })
            killer?.()
          })
      })
    )
    const { start } = await import('../../tools/processes.ts')
    const { waitUntil } = await import('../../tools/wait.ts')
    let killer: (() => void) | undefined
    const child = start(ROWAN, ['status', '--home', double.home])
    killer = () => child.kill('SIGINT')
    await waitUntil('the abort', () => aborted)
    expect((await child.exited).status).not.toBe(0)
  })
})

describe('remove', () => {
  test.skipIf(findTool('script') === undefined)(
    'asked on a terminal and left unanswered, it keeps the machine',
    async () => {
      const { double } = bound(await serve({ remove: async () => ({ machine: 'm' }) }))
      const said = join(double.home, 'said')
      const child = start('script', ['-qec', `${ROWAN} remove m --home ${double.home} 2> ${said}`, '/dev/null'])
      await waitUntil('the question', async () => (await readFile(said, 'utf8').catch(() => '')).includes('[y/N]'))
      child.child.stdin!.write('\x04')
      expect((await child.exited).status).toBe(1)
      expect(await readFile(said, 'utf8')).toMatch(/error: m is kept \[ABORTED\]/)
      expect(double.asked).toEqual([])
    }
  )

  test('without a terminal to ask on needs --yes', async () => {
    const { rowan, double } = bound(await serve({ remove: async () => ({ machine: 'm' }) }))
    const result = await rowan(['remove', 'm'], { input: 'y\n' })
    expect(result.status).toBe(2)
    expect(result.stderr).toContain('--yes')
    expect(double.asked).toEqual([])
  })
})

describe('key, without a daemon', () => {
  test('does nothing beside one that is about to answer: of a new home, each would make keys of its own', async () => {
    const home = await temporaryFolder()
    const catalog = await Catalog.open(join(home, 'catalog'))
    try {
      for (const args of [['show'], ['export', join(home, 'copy')]]) {
        const result = await run(ROWAN, ['key', ...args, '--home', home])
        expect([result.status, result.stderr]).toEqual([
          1,
          expect.stringMatching(/^error: a daemon of .* \[HOME_IN_USE\]$/m)
        ])
      }
      expect(await readdir(join(home, 'keys'))).toEqual([])
    } finally {
      await catalog.close()
    }
    expect((await run(ROWAN, ['key', 'show', '--home', home])).status).toBe(0)
  })

  test('show makes the keys; export and import carry them to another home', async () => {
    const [first, second] = [await temporaryFolder(), await temporaryFolder()]
    const shown = await run(ROWAN, ['key', 'show', '--home', first, '--json'])
    expect(shown.status, shown.stderr).toBe(0)
    const key = JSON.parse(shown.stdout)
    expect(key).toMatchObject({
      publisher: expect.stringMatching(/^12D3KooW/),
      root: true,
      sequence: expect.any(Number)
    })
    expect((await stat(join(first, 'keys', 'root.key'))).mode & 0o777).toBe(0o600)
    const file = join(second, 'copy')
    const exported = await run(ROWAN, ['key', 'export', file, '--home', first, '--json'])
    expect(JSON.parse(exported.stdout)).toMatchObject({ publisher: key.publisher, file })
    const imported = await run(ROWAN, ['key', 'import', file, '--home', second, '--json'])
    expect(imported.status, imported.stderr).toBe(0)
    expect(JSON.parse(imported.stdout)).toMatchObject({ publisher: key.publisher, root: true })
  })
})

describe('doctor', () => {
  test('works without a daemon, makes nothing, and gives advice where something is wrong', async () => {
    const home = join(await temporaryFolder(), 'h')
    const result = await run(ROWAN, ['doctor', '--home', home, '--json'])
    expect(result.status, result.stderr).toBe(0)
    const rows = JSON.parse(result.stdout) as { check: string; ok: boolean; detail: string; advice: string }[]
    expect(rows.map(({ check }) => check)).toEqual(
      expect.arrayContaining([
        'node',
        'home',
        'sockets',
        'settings',
        'qemu-system-x86_64',
        'passt',
        'fallocate',
        'flock',
        'dd',
        'kvm',
        'daemon',
        'catalog'
      ])
    )
    for (const { ok, advice } of rows) expect(ok || advice !== '').toBe(true)
    expect(rows.find(({ check }) => check === 'daemon')).toMatchObject({ ok: false })
    for (const tool of ['fallocate', 'flock', 'dd']) {
      expect(rows.find(({ check }) => check === tool)).toMatchObject({ ok: true })
    }
    expect(await readdir(join(home, '..'))).toEqual([])
  })

  test('names a package that is missing and a setting that is wrong', async () => {
    const home = await temporaryFolder()
    await writeFile(join(home, 'config.toml'), '[pool]\nquota = 5\n')
    const empty = await temporaryFolder()
    await mkdir(join(empty, 'bin'))
    const node = join(ROWAN, '../../node_modules/.bin/node')
    const result = await run(node, [`${ROWAN}.ts`, 'doctor', '--home', home, '--json'], {
      env: { HOME: empty, PATH: join(empty, 'bin') }
    })
    const rows = JSON.parse(result.stdout) as { check: string; ok: boolean; detail: string; advice: string }[]
    const of = (check: string) => rows.find(row => row.check === check)
    expect(of('qemu-system-x86_64')).toMatchObject({ ok: false, advice: expect.stringContaining('qemu-system-x86`') })
    expect(of('passt')).toMatchObject({ ok: false, advice: expect.stringContaining('apt install passt') })
    expect(of('fallocate')).toMatchObject({ ok: false, advice: expect.stringContaining('apt install util-linux') })
    expect(of('settings')).toMatchObject({ ok: false, detail: expect.stringContaining('[pool] quota') })
  })

  test('tries a tool that may be of another kind than it is needed', async () => {
    const home = await temporaryFolder()
    const tools = await temporaryFolder()
    await writeFile(join(tools, 'dd'), '#!/bin/sh\necho "dd: bad argument" >&2; exit 1\n', { mode: 0o755 })
    const node = join(ROWAN, '../../node_modules/.bin/node')
    const result = await run(node, [`${ROWAN}.ts`, 'doctor', '--home', home, '--json'], {
      env: { HOME: home, PATH: `${tools}:${process.env.PATH}` }
    })
    const rows = JSON.parse(result.stdout) as { check: string; ok: boolean; detail: string; advice: string }[]
    expect(rows.find(({ check }) => check === 'dd')).toMatchObject({
      ok: false,
      detail: expect.stringContaining('bad argument'),
      advice: expect.stringContaining('apt install coreutils')
    })
  })

  test('adds what the daemon says, and repairs only without one', async () => {
    const row = { check: 'reachability', ok: true, detail: 'yes', advice: '' }
    const { rowan } = bound(await serve({ doctor: async () => [row] }))
    const rows = JSON.parse((await rowan(['doctor', '--json'])).stdout) as { check: string }[]
    expect(rows.at(-1)).toEqual(row)
    const repair = await rowan(['doctor', '--repair'])
    expect(repair.status).toBe(1)
    expect(repair.stderr).toContain('[HOME_IN_USE]')
  })
})

test('status for a person shows peers, machines, what is wrong, and the pool', async () => {
  const numbers = {
    layers: 1,
    local: { blocks: 1382, of: 9812 },
    layerBytes: 1.25e9,
    fetched: { blocks: 1382, bytes: 90.6e6, wireBytes: 31e6 },
    waited: { seconds: 4.2, longestMs: 312, reads: 77 }
  }
  const machine = {
    appliance: PUBLISHED.appliance,
    version: 'v1',
    image: 'a',
    size: 1,
    attached: true,
    readOnly: false
  }
  const { rowan } = bound(
    await serve({
      status: async () => ({
        peer: '12D3peer',
        publisher: '12D3pub',
        addresses: ['/ip4/1/p2p/12D3peer'],
        reachability: {
          how: 'direct',
          relays: [],
          relayedPeers: 0,
          relayedBytes: 0,
          sentence: 'others can dial this peer'
        },
        peers: 3,
        exchanging: [],
        machines: [
          { name: 'm', clients: 1, ...machine, ...numbers },
          {
            name: 'x',
            clients: 0,
            ...machine,
            ...numbers,
            appliance: '',
            error: { code: 'MACHINE_CORRUPT', message: 'bad' }
          }
        ],
        replicating: [
          { appliance: PUBLISHED.appliance, version: 'v1', image: 'a', complete: false, local: { blocks: 1, of: 2 } }
        ],
        pool: { blocks: 1, bytes: 65_536, quotaBytes: 50e9 }
      })
    })
  )
  const { stdout } = await rowan(['status'])
  expect(stdout).toContain('connected  3 peers')
  expect(stdout).toContain('reachable  others can dial this peer')
  expect(stdout).toContain('1 block, 65.5 kB of 50 GB')
  expect(stdout).toMatch(
    /^m +12D3KooWAbcd…\/grid@v1 +in use +14 % \(1382\/9812\) +1\.25 GB +90\.6 MB +31 MB +4\.2s +312ms$/m
  )
  expect(stdout).toContain('x: bad [MACHINE_CORRUPT]')
  expect(stdout).toMatch(/grid@v1 +50 % \(1\/2\)/)
})

test('every command explains itself with an example', async () => {
  const help = await run(ROWAN, ['--help'])
  expect(help.status).toBe(0)
  const commands = [...help.stdout.matchAll(/^ {2}([a-z]+)(?: |$)/gm)].map(match => match[1]!)
  const expected = 'up publish replicate attach run detach remove releases gc status follow doctor key'.split(' ')
  expect(commands).toEqual(expect.arrayContaining(expected))
  const own = expected.map(command => [command])
  const keys = ['show', 'export', 'import', 'renew', 'rotate'].map(command => ['key', command])
  for (const command of [...own, ...keys]) {
    const { status, stdout } = await run(ROWAN, [...command, '--help'])
    expect(status).toBe(0)
    expect(stdout).toMatch(new RegExp(`Examples:\\n(?:.*\\n)*? +.*rowan ${command.join(' ')}`))
    expect(stdout).toContain('--home <dir>')
  }
})

function bound(double: DaemonDouble): { double: DaemonDouble; rowan: DaemonDouble['rowan'] } {
  return { double, rowan: (args, options) => double.rowan(args, options) }
}
