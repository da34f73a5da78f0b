/**
 * An image from a web server: when it is asked, for what, and what becomes of servers that are slow, gone, confused or lying. The
 * servers are real ones, the files are those that the export writes.
 */
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { encodeProfile, MAX_PROFILE_BYTES } from '../../src/image/boot-profile.ts'
import { HTTP_TIMEOUTS, HttpNetwork } from '../../src/node/http-network.ts'
import { Neighbourhood } from '../../src/node/neighbourhood.ts'
import { lineLog, systemClock, systemRandom } from '../../src/node/system.ts'
import { exportWeb } from '../../src/release/web-export.ts'
import type { Catalog } from '../../src/store/catalog.ts'
import { PartFiles } from '../../src/store/part-files.ts'
import type { ProfileExchange } from '../../src/swarm/swarm.ts'
import { type Misbehave, WebServer } from '../tools/web-server.ts'
import {
  keepImage,
  makeImage,
  obtainedBytes,
  openStore,
  recordingLog,
  startPeer,
  type TestImage,
  type TestPeer,
  until
} from '../unit/swarm/support.ts'

/** A window that shrinks, since a busy machine looks like a queue, leaves no room for neighbours: the best of so many tries counts. */
const TRIES = 5
/** Requests for each block, where neighbours go together. */
const SHARED = 1 / 3
/** For servers that are silent: they are called in time, and the wait for what does not come is short. */
const FAST = { connectMs: 60_000, firstByteMs: 400, chunkMs: 400, totalMs: 3_000 }

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

const partsOf = ({ catalog }: { catalog: Catalog }) =>
  new PartFiles({ catalog, random: systemRandom, log: lineLog('silent') })

/** A web server with the files of images that are nowhere else. */
async function serverOf(...images: TestImage[]): Promise<WebServer> {
  const folder = await mkdtemp(join(tmpdir(), 'rowan-web-'))
  stops.push(() => rm(folder, { recursive: true, force: true }))
  const store = await openStore()
  for (const image of images) {
    await keepImage(store, image)
    const local = (await store.images.open(image.id))!
    await exportWeb(local, partsOf(store), { folder, signal: new AbortController().signal, onProgress() {} })
  }
  await store.close()
  const server = await WebServer.start(folder)
  stops.push(() => server.stop())
  return server
}

async function peer(options: Parameters<typeof startPeer>[0] = {}): Promise<TestPeer> {
  const started = await startPeer(options)
  stops.push(() => started.stop())
  return started
}

function network(timeouts = HTTP_TIMEOUTS): HttpNetwork {
  const http = new HttpNetwork({ mayDial: () => true, clock: systemClock }, timeouts)
  stops.push(() => http.stop())
  return http
}

async function expectIdentical(at: TestPeer, image: TestImage): Promise<void> {
  const local = (await at.images.open(image.id))!
  expect(local.complete).toBe(true)
  for (let n = 0; n < image.blocks; n++) {
    const slot = local.locate(n)
    const bytes = slot >= 0 ? obtainedBytes(at, { slot }) : new Uint8Array(65_536)
    if (Buffer.compare(bytes, image.block(n)) !== 0) throw new Error(`block ${n} differs`)
  }
}

describe('with nothing but a web seed', () => {
  test.each([
    ['compressible', 300, { compressible: true }],
    [
      'incompressible, of several pages, one of them zero',
      2100,
      { isZero: (n: number) => n % 7 === 3 || (n >= 20 && n < 2048) }
    ]
  ] as const)('an image that is %s is completed, neighbours in one request', async (_what, blocks, options) => {
    const image = makeImage(31, blocks, options)
    const server = await serverOf(image)
    let share = 1
    for (let attempt = 0; attempt < TRIES && share >= SHARED; attempt++) {
      const before = server.packs.length
      const { log, lines } = recordingLog()
      const client = await peer({ log, web: { network: network(), seedsOf: () => [server.url] } })
      await client.swarm.fill(image.id)
      await expectIdentical(client, image)
      expect(lines.filter(({ level }) => level === 'warn')).toEqual([])
      const { blocks: fetched, perPeer } = client.swarm.transfers(image.id)
      expect(perPeer).toHaveProperty([`web:${server.url}`, 'blocks'], fetched)
      share = Math.min(share, (server.packs.length - before) / fetched)
    }
    // A block of zeros between two others takes no place in the pack, and does not part them.
    expect(share).toBeLessThan(SHARED)
    expect(server.asked.every(({ path }) => path.startsWith(`/${image.id}/`))).toBe(true)
  })

  test('a block that a guest waits for comes first, and alone where it is alone', async () => {
    const image = makeImage(32, 500)
    const server = await serverOf(image)
    const client = await peer({ web: { network: network(), seedsOf: () => [server.url] } })
    const obtained = await client.swarm.want(image.id, 401, 'demand')
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(401))).toBe(0)
    expect(client.swarm.transfers(image.id).blocks).toBe(1)
    expect(server.packs).toHaveLength(2)
  })

  test('a boot profile among its files is heard, and one that cannot be one is not read', async () => {
    const image = makeImage(51, 20)
    const server = await serverOf(image)
    const profile = encodeProfile([{ block: 5, atMs: 0 }])
    const heard: unknown[] = []
    const profiles: ProfileExchange = {
      toShare: () => undefined,
      heard: async (...all) => void heard.push(all),
      disown: () => undefined
    }
    for (const bytes of [profile, new Uint8Array(MAX_PROFILE_BYTES + 1)]) {
      server.misbehave = (path, answer) => {
        if (!path.endsWith('/profile')) return false
        answer.end(bytes)
        return true
      }
      const { log, lines } = recordingLog()
      const client = await peer({ log, profiles, web: { network: network(), seedsOf: () => [server.url] } })
      if (bytes === profile) await client.swarm.fill(image.id)
      else {
        await expect(client.swarm.openImage(image.id, [], { timeoutMs: 3_000 })).rejects.toMatchObject({
          code: 'NO_REPLICA'
        })
        expect(lines.some(({ values }) => values.code === 'WEB_SEED_REFUSED')).toBe(true)
      }
      expect(heard).toEqual([[image.id, `web:${server.url}`, profile, 20]])
    }
  })

  test('a redirection within the same server is followed', async () => {
    const image = makeImage(33, 20)
    const server = await serverOf(image)
    server.misbehave = (path, answer) => {
      if (path.startsWith('/old/')) answer.writeHead(302, { location: path.slice(4) }).end()
      return path.startsWith('/old/')
    }
    const client = await peer({ web: { network: network(), seedsOf: () => [`${server.url}old/`] } })
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
  })
})

describe('with replicas', () => {
  test('a web seed is not asked while one does well', async () => {
    const image = makeImage(34, 1500)
    const server = await serverOf(image)
    const replica = await peer()
    await keepImage(replica, image)
    const client = await peer({ web: { network: network(), seedsOf: () => [server.url] } })
    await client.swarm.openImage(image.id, [replica.hint()])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(server.connections).toBe(0)
  })

  test('it is asked when the last one is gone, and no more when one is back', async () => {
    const image = makeImage(35, 400)
    const server = await serverOf(image)
    const replica = await startPeer()
    await keepImage(replica, image)
    const client = await peer({ web: { network: network(), seedsOf: () => [server.url] } })
    await client.swarm.openImage(image.id, [replica.hint()])
    await client.swarm.want(image.id, 1, 'demand')
    await replica.stop()
    await client.swarm.want(image.id, 399, 'demand')
    expect(server.packs.length).toBeGreaterThan(0)
    const back = await peer()
    await keepImage(back, image)
    client.swarm.addReplicas(image.id, [back.hint()])
    // Nothing is wanted now, so somebody has to ask.
    await client.swarm.openImage(image.id)
    await until(
      () => client.swarm.peers().some(({ peer, images }) => peer === back.id && images.length > 0),
      'the replica'
    )
    const before = server.asked.length
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(server.asked.length).toBe(before)
  })
})

const endless = (answer: ServerResponse) => {
  const more = () => void (answer.writable && answer.write(Buffer.alloc(65_536), more))
  more()
}
const pack =
  (misbehave: Misbehave): Misbehave =>
  (path, answer, request) =>
    path.includes('/pack-') && misbehave(path, answer, request)

const bad: [what: string, code: string, misbehave: Misbehave][] = [
  ['never answers', 'TIMEOUT_RESPONSE', () => true],
  [
    'stops in the middle',
    'TIMEOUT_RESPONSE',
    pack((_path, answer, { headers }) => {
      answer.writeHead(206, { 'content-range': headers.range!.replace('=', ' ').concat('/9999999') }).write('x')
      return true
    })
  ],
  [
    'sends a byte now and then',
    'TIMEOUT_RESPONSE',
    pack((_path, answer, { headers }) => {
      answer.writeHead(206, { 'content-range': headers.range!.replace('=', ' ').concat('/9999999') })
      const timer = setInterval(() => answer.write('x'), 100)
      answer.on('close', () => clearInterval(timer))
      return true
    })
  ],
  [
    'breaks off',
    'WEB_SEED_UNREACHABLE',
    pack((_path, answer) => {
      answer.destroy()
      return true
    })
  ],
  [
    'redirects to another host',
    'WEB_SEED_REFUSED',
    (_path, answer) => {
      answer.writeHead(302, { location: 'http://localhost/elsewhere' }).end()
      return true
    }
  ],
  [
    'redirects for ever',
    'WEB_SEED_REFUSED',
    (path, answer) => {
      answer.writeHead(302, { location: path }).end()
      return true
    }
  ],
  [
    'answers 500',
    'WEB_SEED_REFUSED',
    (_path, answer) => {
      answer.writeHead(500).end()
      return true
    }
  ],
  [
    'answers 200 with the whole file',
    'WEB_SEED_REFUSED',
    pack((_path, answer) => {
      answer.writeHead(200, { 'content-length': 5_000_000 }).end(Buffer.alloc(5_000_000))
      return true
    })
  ],
  [
    'answers a range with 200',
    'WEB_SEED_REFUSED',
    pack((_path, answer) => {
      const writeHead = answer.writeHead.bind(answer)
      answer.writeHead = ((_status: number, headers: object) =>
        writeHead(200, { ...headers })) as typeof answer.writeHead
      return false
    })
  ],
  [
    'answers another range',
    'WEB_SEED_REFUSED',
    pack((_path, answer) => {
      answer.writeHead(206, { 'content-range': 'bytes 1-10/9999999' }).end('0123456789')
      return true
    })
  ],
  [
    'announces another length',
    'WEB_SEED_REFUSED',
    pack((_path, answer, { headers }) => {
      answer
        .writeHead(206, { 'content-range': headers.range!.replace('=', ' ').concat('/9999999'), 'content-length': 3 })
        .end('abc')
      return true
    })
  ],
  [
    'sends less than it should',
    'WEB_SEED_REFUSED',
    pack((_path, answer, { headers }) => {
      answer.writeHead(206, { 'content-range': headers.range!.replace('=', ' ').concat('/9999999') }).end('abc')
      return true
    })
  ],
  [
    'never ends',
    'WEB_SEED_REFUSED',
    pack((_path, answer, { headers }) => {
      answer.writeHead(206, { 'content-range': headers.range!.replace('=', ' ').concat('/9999999') })
      endless(answer)
      return true
    })
  ],
  [
    'has a root that never ends',
    'WEB_SEED_REFUSED',
    (_path, answer) => {
      answer.writeHead(200)
      endless(answer)
      return true
    }
  ],
  [
    'compresses its answers',
    'WEB_SEED_REFUSED',
    pack((_path, answer, { headers }) => {
      // As long as what was asked for, so that nothing else is wrong with it.
      const [, from, to] = /(\d+)-(\d+)/.exec(headers.range!)!
      const body = Buffer.concat([gzipSync('x'), Buffer.alloc(70_000)], Number(to) + 1 - Number(from))
      answer.writeHead(206, {
        'content-range': headers.range!.replace('=', ' ').concat('/9999999'),
        'content-encoding': 'gzip'
      })
      answer.end(body)
      return true
    })
  ]
]

describe('a web seed that', () => {
  test.each(bad)(
    '%s is left alone for a while, says %s, and is used once it is well',
    async (_what, code, misbehave) => {
      const image = makeImage(36, 60)
      const server = await serverOf(image)
      server.misbehave = misbehave
      const { log, lines } = recordingLog()
      const noted: string[] = []
      const liars = { peers: new Set<string>(), note: (peer: string) => void noted.push(peer) }
      const http = network(code === 'TIMEOUT_RESPONSE' ? FAST : HTTP_TIMEOUTS)
      const client = await peer({ log, liars, web: { network: http, seedsOf: () => [server.url] } })
      const filled = client.swarm.fill(image.id)
      await until(() => lines.some(({ message }) => message === 'a web seed is of no use now'), 'the end of it')
      expect(
        lines.filter(({ message }) => message === 'a web seed is of no use now').map(({ values }) => values.code)
      ).toEqual([code])
      expect(noted).toEqual([])
      const before = server.asked.length
      server.misbehave = () => false
      await filled
      await expectIdentical(client, image)
      expect(server.asked.length).toBeGreaterThan(before)
    }
  )

  test('cannot be reached is tried again later', async () => {
    const image = makeImage(37, 60)
    const server = await serverOf(image)
    const gone = await WebServer.start('/nowhere')
    const { url } = gone
    await gone.stop()
    const { log, lines } = recordingLog()
    const client = await peer({ log, web: { network: network(), seedsOf: () => [url, server.url] } })
    // The next one is asked meanwhile.
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(lines.find(({ message }) => message === 'a web seed is of no use now')?.values).toMatchObject({
      url,
      code: 'WEB_SEED_UNREACHABLE'
    })
  })

  test('does not have the image is not asked for it again at once', async () => {
    const [image, other] = [makeImage(38, 60), makeImage(39, 10)]
    const server = await serverOf(other)
    const client = await peer({ web: { network: network(), seedsOf: () => [server.url] } })
    const opening = client.swarm.openImage(image.id, [], { timeoutMs: 4_000 })
    await expect(opening).rejects.toMatchObject({ code: 'NO_REPLICA' })
    expect(server.asked.map(({ path }) => path).sort()).toEqual([`/${image.id}/profile`, `/${image.id}/root`])
  })

  test.each<[string, string, Misbehave]>([
    ['gives wrong blocks', 'BLOCK_INVALID', wrongBytes(/pack-/, 5_000)],
    ['gives a wrong node', 'INDEX_INVALID', wrongBytes(/node-/, 40)],
    ['gives another root', 'INDEX_INVALID', wrongBytes(/root/, 3)],
    ['has a damaged range index', 'WEB_SEED_INVALID', wrongBytes(/pack-/, 14)]
  ])('%s is remembered as a liar, and never asked again', async (_what, code, misbehave) => {
    const image = makeImage(40, 60)
    const server = await serverOf(image)
    server.misbehave = misbehave
    const noted: [string, string][] = []
    const liars = { peers: new Set<string>(), note: (peer: string, why: string) => void noted.push([peer, why]) }
    const client = await peer({ liars, web: { network: network(), seedsOf: () => [server.url] } })
    const filled = client.swarm.fill(image.id)
    await until(() => noted.length > 0, 'the accusation')
    expect(noted).toEqual([[`web:${server.url}`, code]])
    server.misbehave = () => false
    const before = server.asked.length
    await new Promise(resolve => setTimeout(resolve, 4_000))
    expect(server.asked.length).toBe(before)
    // Somebody honest completes it.
    const replica = await peer()
    await keepImage(replica, image)
    client.swarm.addReplicas(image.id, [replica.hint()])
    await filled
    await expectIdentical(client, image)
  })
})

/** Changes the byte at `at` of what the file's first bytes or a later range of it has. */
function wrongBytes(files: RegExp, at: number): Misbehave {
  return (path, answer) => {
    if (!files.test(path)) return false
    const end = answer.end.bind(answer)
    answer.end = ((body: Buffer) => {
      const copy = Buffer.from(body)
      if (at < copy.byteLength) copy[at]! ^= 0x55
      return end(copy)
    }) as typeof answer.end
    return false
  }
}

describe('addresses', () => {
  const get = (http: HttpNetwork, url: string) => http.get({ url, maxBytes: 100, signal: new AbortController().signal })
  const resolvesTo =
    (...addresses: string[]): NonNullable<ConstructorParameters<typeof HttpNetwork>[0]['resolve']> =>
    (_hostname, _options, callback) =>
      callback(
        null,
        addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 }))
      )

  test.each([
    ['127.0.0.1'],
    ['10.1.2.3'],
    ['192.168.1.1'],
    ['169.254.169.254'],
    ['0.0.0.0'],
    ['::1'],
    ['fe80::1'],
    ['fc00::1'],
    ['::ffff:127.0.0.1']
  ])('%s is not called by a peer that met nobody there, by number or by name', async address => {
    const neighbourhood = new Neighbourhood()
    const mayDial = (to: string) => neighbourhood.mayDial(to)
    const http = new HttpNetwork({ mayDial, clock: systemClock, resolve: resolvesTo(address) })
    stops.push(() => http.stop())
    const host = address.includes(':') ? `[${address}]` : address
    await expect(get(http, `http://${host}/x`)).rejects.toMatchObject({ code: 'WEB_SEED_ADDRESS' })
    await expect(get(http, 'http://seed.example/x')).rejects.toMatchObject({ code: 'WEB_SEED_ADDRESS' })
    await expect(get(http, 'https://seed.example/x')).rejects.toMatchObject({ code: 'WEB_SEED_ADDRESS' })
  })

  test('a server that refuses nothing else sees no connection, until this peer met somebody there', async () => {
    const image = makeImage(41, 5)
    const server = await serverOf(image)
    const neighbourhood = new Neighbourhood()
    const mayDial = (to: string) => neighbourhood.mayDial(to)
    const http = new HttpNetwork({ mayDial, clock: systemClock, resolve: resolvesTo('127.0.0.1') })
    stops.push(() => http.stop())
    const url = `http://seed.example:${server.port}/${image.id}/root`
    await expect(get(http, url)).rejects.toMatchObject({ code: 'WEB_SEED_ADDRESS' })
    expect(server.connections).toBe(0)
    neighbourhood.met('/ip4/127.0.0.1/tcp/4001')
    const chunks: Uint8Array[] = []
    for await (const chunk of (await get(http, url))!) chunks.push(chunk)
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(image.rootBytes))
  })

  test('a request that is given up ends its connection', async () => {
    const server = await serverOf(makeImage(42, 5))
    let closed: Promise<unknown> | undefined
    server.misbehave = (_path, answer) => {
      closed = once(answer, 'close')
      return true
    }
    const stop = new AbortController()
    const asked = network().get({ url: server.url, maxBytes: 100, signal: stop.signal })
    await until(() => closed !== undefined, 'the request')
    stop.abort()
    await expect(asked).rejects.toMatchObject({ code: 'ABORTED' })
    await closed
  })
})

describe('the export', () => {
  test('of an image that is not complete here is refused, and so is one that would overwrite', async () => {
    const image = makeImage(43, 30)
    const folder = await mkdtemp(join(tmpdir(), 'rowan-web-'))
    stops.push(() => rm(folder, { recursive: true, force: true }))
    const store = await openStore()
    stops.push(() => store.close())
    const progress: [number, number][] = []
    const onProgress = (done: number, of: number) => void progress.push([done, of])
    const request = { folder, signal: new AbortController().signal, onProgress }
    await keepImage(store, image, n => n !== 20)
    const local = (await store.images.open(image.id))!
    await expect(exportWeb(local, partsOf(store), request)).rejects.toMatchObject({ code: 'IMAGE_INCOMPLETE' })
    expect(await readdir(folder)).toEqual([])
    expect(progress).toEqual([])
    await keepImage(store, image)
    const written = await exportWeb(local, partsOf(store), request)
    expect(await readdir(folder)).toEqual([image.id])
    expect((await readdir(join(folder, image.id))).sort()).toEqual(['node-0-0', 'pack-0', 'root'])
    expect(written.files).toBe(3)
    const profile = encodeProfile([{ block: 5, atMs: 0 }])
    const withProfile = join(folder, 'with-profile')
    expect(await exportWeb(local, partsOf(store), { ...request, folder: withProfile, profile })).toMatchObject({
      files: 4
    })
    expect(await readFile(join(withProfile, image.id, 'profile'))).toEqual(Buffer.from(profile))
    expect(progress.at(-1)).toEqual([26, 26])
    await expect(exportWeb(local, partsOf(store), request)).rejects.toMatchObject({ code: 'FILE_EXISTS' })
  })

  test('that is stopped leaves nothing behind', async () => {
    const image = makeImage(44, 30)
    const folder = await mkdtemp(join(tmpdir(), 'rowan-web-'))
    stops.push(() => rm(folder, { recursive: true, force: true }))
    const store = await openStore()
    stops.push(() => store.close())
    await keepImage(store, image)
    const stop = new AbortController()
    const onProgress = (done: number) => void (done === 3 && stop.abort())
    const exporting = exportWeb((await store.images.open(image.id))!, partsOf(store), {
      folder,
      signal: stop.signal,
      onProgress
    })
    await expect(exporting).rejects.toMatchObject({ code: 'ABORTED' })
    expect(await readdir(folder)).toEqual([])
  })
})
