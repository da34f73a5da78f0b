import { readdir, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import type { Progress } from '../../../src/node/command-results.ts'
import { ControlClient } from '../../../src/node/control-client.ts'
import { ControlServer, MAX_COMMANDS, MAX_REQUEST_BYTES, STOP_TIMEOUT_MS } from '../../../src/node/control-server.ts'
import { type CommandTable, commandTable, type Handlers } from '../../../src/node/daemon-api.ts'
import { lineLog } from '../../../src/node/system.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { startOwnTime } from '../../tools/own-time.ts'
import { waitUntil } from '../../tools/wait.ts'

let socketPath: string
let server: ControlServer | undefined
const logged: string[] = []

beforeEach(async () => {
  socketPath = join(await temporaryFolder(), 'control.sock')
  logged.length = 0
})

afterEach(async () => {
  await server?.stop()
  server = undefined
  await removeFolders()
})

async function serve(commands: CommandTable): Promise<ControlClient> {
  server = new ControlServer(
    { commands, log: lineLog('debug', line => logged.push(line)) },
    { socketPath, version: '1.2.3' }
  )
  await server.start()
  return new ControlClient(socketPath)
}

/** A raw request; the whole answer. */
function raw(method: string, path: string, body?: string): Promise<{ status: number; lines: object[] }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', chunk => {
        text += chunk
      })
      response.on('end', () => {
        const lines = text.trim().split('\n')
        resolve({ status: response.statusCode!, lines: lines.map(line => JSON.parse(line) as object) })
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

test('a command gets its parameters, tells its progress and answers', async () => {
  const seen: Progress[] = []
  const client = await serve({
    status: async (params, { progress }) => {
      for (const done of [1, 2]) progress({ phase: 'reading', done, of: 2, unit: 'bytes' })
      return { got: params }
    }
  })
  const answer = await client.call('status', {}, { onProgress: progress => seen.push(progress) })
  expect(answer).toEqual({ got: {} })
  expect(seen.map(({ done }) => done)).toEqual([1, 2])
})

test('an error keeps its code and sentence, and a foreign one is INTERNAL', async () => {
  const client = await serve({
    status: async () => {
      throw new RowanError('POOL_FULL', 'the pool has 5 blocks, which is its quota')
    },
    doctor: async () => {
      throw new TypeError('x is not a function')
    }
  })
  await expect(client.call('status', {})).rejects.toMatchObject({ code: 'POOL_FULL', message: /5 blocks/ })
  await expect(client.call('doctor', {})).rejects.toMatchObject({ code: 'INTERNAL' })
  expect(logged.join('')).toContain('POOL_FULL')
})

test('ping says who is there', async () => {
  const client = await serve({})
  expect(await client.ping()).toEqual({ ok: true, version: '1.2.3', pid: process.pid })
})

test('the socket is for its owner only, whatever the umask, and gone after the stop', async () => {
  const before = process.umask(0)
  try {
    await serve({})
  } finally {
    expect(process.umask(before)).toBe(0)
  }
  expect((await stat(socketPath)).mode & 0o777).toBe(0o600)
  await server!.stop()
  expect(await readdir(join(socketPath, '..'))).toEqual([])
})

describe('requests that are not understood', () => {
  test('an unknown command, also one that every object has', async () => {
    await serve({ status: async () => 1 })
    for (const path of ['/v1/fly', '/v1/constructor', '/v1/', '/', '/v2/status', '/v1/status/x']) {
      const { status, lines } = await raw('POST', path, '{}')
      expect(status).toBe(404)
      expect(lines).toEqual([{ error: { code: 'REQUEST_INVALID', message: expect.any(String) } }])
    }
  })

  test('another method, or no JSON', async () => {
    await serve({ status: async () => 1 })
    expect((await raw('GET', '/v1/status')).status).toBe(405)
    expect((await raw('POST', '/v1/status', '{"a":')).status).toBe(400)
  })

  test('one that is too large, and the next one is served', async () => {
    await serve({ status: async () => 1 })
    const { status, lines } = await raw('POST', '/v1/status', `"${'x'.repeat(MAX_REQUEST_BYTES)}"`)
    expect(status).toBe(413)
    expect(lines[0]).toMatchObject({ error: { message: expect.stringContaining(String(MAX_REQUEST_BYTES)) } })
    expect(await raw('POST', '/v1/status', '{}')).toEqual({ status: 200, lines: [{ result: 1 }] })
  })

  test('parameters are checked against the command, each by name', async () => {
    const table = commandTable({ attach: async () => ({}) } as unknown as Handlers)
    const client = await serve(table)
    const attach = (params: object) => client.call('attach', params as never)
    await expect(attach({ machine: 'm', readOnly: true })).resolves.toEqual({})
    for (const [params, name] of [
      [{}, '"machine"'],
      [{ machine: 5 }, '"machine"'],
      [{ machine: '' }, '"machine"'],
      [{ machine: 'm'.repeat(5000) }, '"machine"'],
      [{ machine: 'm', readOnly: 'yes' }, '"readOnly"'],
      [{ machine: 'm', readonly: true }, '"readonly"'],
      [[], 'JSON object']
    ] as const) {
      await expect(attach(params)).rejects.toMatchObject({
        code: 'REQUEST_INVALID',
        message: expect.stringContaining(name)
      })
    }
  })
})

test('a client that goes away aborts its command', async () => {
  let signal: AbortSignal | undefined
  await serve({
    status: (_params, context) => {
      signal = context.signal
      return new Promise((_resolve, reject) => context.signal.addEventListener('abort', () => reject(signal!.reason)))
    }
  })
  const socket = connect(socketPath)
  socket.write('POST /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}')
  await waitUntil('the command', () => signal)
  expect(signal!.aborted).toBe(false)
  socket.destroy()
  await waitUntil('the abort', () => signal!.aborted)
})

test('one command more than may run at a time is told so, and that somebody is there', async () => {
  const over = Promise.withResolvers<void>()
  let running = 0
  const client = await serve({
    status: async () => {
      running++
      await over.promise
      return {}
    }
  })
  const calls = Array.from({ length: MAX_COMMANDS }, () => client.call('status', {}))
  await waitUntil('all of them', () => running === MAX_COMMANDS)
  await expect(client.call('status', {})).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
  expect(await client.ping()).toMatchObject({ ok: true })
  over.resolve()
  await Promise.all(calls)
  expect(await client.call('status', {})).toEqual({})
})

test('the client’s own signal ends the call with ABORTED', async () => {
  const controller = new AbortController()
  const client = await serve({
    status: async (_params, { signal }) => {
      controller.abort()
      await new Promise(resolve => signal.addEventListener('abort', resolve))
    }
  })
  await expect(client.call('status', {}, { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' })
})

test('a client that does not read its progress costs no memory', async () => {
  let held = 0
  let done = false
  await serve({
    status: async (_params, { progress }) => {
      const before =
        process.memoryUsage().external + process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed
      for (let i = 0; i < 300_000; i++) progress({ phase: 'x'.repeat(200), done: i, of: 1, unit: 'bytes' })
      const after = process.memoryUsage()
      held = after.external + after.arrayBuffers + after.heapUsed - before
      done = true
    }
  })
  const socket = connect(socketPath)
  socket.pause()
  socket.write('POST /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}')
  await waitUntil('the command', () => done)
  socket.destroy()
  // The lines together have 75 MB.
  expect(held).toBeLessThan(40e6)
})

test('stopping aborts what runs, answers it, and is then over', async () => {
  let isRunning = false
  const client = await serve({
    status: (_params, { signal }) => {
      isRunning = true
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
  })
  const outcome = expect(client.call('status', {})).rejects.toMatchObject({
    code: 'ABORTED',
    message: 'the daemon is stopping'
  })
  await waitUntil('the command', () => isRunning)
  await server!.stop()
  await outcome
})

describe('no daemon', () => {
  test('no socket, or one that a killed daemon left', async () => {
    const client = new ControlClient(socketPath)
    await expect(client.ping()).rejects.toMatchObject({ code: 'DAEMON_NOT_RUNNING' })
    await leaveSocketBehind(socketPath)
    await expect(client.call('status', {})).rejects.toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      message: expect.stringContaining(socketPath)
    })
  })

  test('a daemon that dies in the middle of a command', async () => {
    const dying = createServer(socket => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{"pr\r\n', () => socket.destroy())
      )
    })
    await new Promise<void>(resolve => dying.listen(socketPath, resolve))
    await expect(new ControlClient(socketPath).call('status', {})).rejects.toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      message: expect.stringContaining('went away')
    })
    await new Promise(resolve => dying.close(resolve))
  })
})

test('a socket that a killed daemon left is taken over; one that is in use is not', async () => {
  await leaveSocketBehind(socketPath)
  await serve({})
  const second = new ControlServer({ commands: {}, log: lineLog('silent') }, { socketPath, version: '1' })
  await expect(second.start()).rejects.toMatchObject({ code: 'HOME_IN_USE' })
  expect((await new ControlClient(socketPath).ping()).ok).toBe(true)
})

test('something else in the socket’s place is left alone', async () => {
  await writeFile(socketPath, 'mine')
  const other = new ControlServer({ commands: {}, log: lineLog('silent') }, { socketPath, version: '1' })
  await expect(other.start()).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
})

/** As SIGKILL leaves it: the file is there and nobody listens. */
async function leaveSocketBehind(path: string): Promise<void> {
  const { spawnSync } = await import('node:child_process')
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script])
  expect((await stat(path)).isSocket()).toBe(true)
}

describe('stopping', () => {
  test.each([
    ['nothing', ''],
    ['half a line', 'POST /v1/sta'],
    ['half a body', 'POST /v1/status HTTP/1.1\r\nHost: rowan\r\nContent-Length: 10\r\n\r\n{']
  ])('does not wait for a client that has said %s', async (_what, said) => {
    await serve({ status: async () => ({}) })
    const client = connect(socketPath).resume()
    client.on('error', () => client.destroy())
    await new Promise<void>(resolve => client.once('connect', resolve))
    await new Promise<void>(resolve => client.write(said, () => resolve()))
    // The server has taken the connection once it answers another that came after it.
    await raw('GET', '/v1/ping')
    const gone = new Promise<void>(resolve => client.once('close', () => resolve()))
    const ownMs = startOwnTime()
    await server?.stop()
    await gone
    expect(ownMs()).toBeLessThan(STOP_TIMEOUT_MS / 2)
  })

  test('does not wait for a command that goes on for ever', async () => {
    const started = Promise.withResolvers<void>()
    const client = await serve({
      status: () => {
        started.resolve()
        return new Promise(() => undefined)
      }
    })
    const answer = client.call('status', {}).catch((error: unknown) => error)
    await started.promise
    await server?.stop()
    expect(await answer).toBeInstanceOf(RowanError)
    expect(logged.join('')).toContain('cut off before they were answered')
  })
})
