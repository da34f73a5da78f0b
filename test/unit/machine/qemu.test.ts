import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { openings, type QemuOptions, qemuCommand, shellLine } from '../../../src/machine/qemu.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { MemoryDevice } from '../../tools/memory-device.ts'
import { serve, stopServers } from '../../tools/nbd-fixture.ts'
import { endProcesses, start } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'

afterEach(async () => {
  await endProcesses()
  await stopServers()
  await removeFolders()
})

const base: QemuOptions = {
  machine: 'm',
  socketPath: '/run/a,b/nbd.sock',
  readOnly: false,
  network: { mode: 'none' },
  kvm: false,
  terminal: false,
  extra: []
}

function argsOf(options: Partial<QemuOptions> = {}): string[] {
  return qemuCommand({ ...base, ...options }).args
}

/** The values of an option, in order. */
function values(args: string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1]!] : []))
}

describe('the command', () => {
  test('has the data disk as its second drive, from which it does not boot', () => {
    const args = argsOf({ dataDisk: true })
    const drives = values(args, '-blockdev').map(value => JSON.parse(value) as Record<string, unknown>)
    expect(drives.map(drive => [drive['node-name'], drive.export ?? drive.file])).toEqual([
      ['wire0', 'm'],
      ['disk0', 'wire0'],
      ['wire1', 'm/data'],
      ['disk1', 'wire1']
    ])
    const devices = values(args, '-device').filter(value => value.startsWith('virtio-blk'))
    expect(devices.map(value => value.includes('bootindex'))).toEqual([true, false])
    expect(values(argsOf(), '-blockdev')).toHaveLength(2)
  })

  test('is sandboxed, without defaults, without network, and its disk is raw, whatever the image says it is', () => {
    const args = argsOf()
    expect(args.slice(0, 2)).toEqual(['-nodefaults', '-no-user-config'])
    expect(values(args, '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'
    ])
    expect(values(args, '-nic')).toEqual(['none'])
    expect(args).not.toContain('-netdev')
    const [wire, raw] = values(args, '-blockdev').map(text => JSON.parse(text) as object)
    expect(wire).toEqual({
      driver: 'nbd',
      'node-name': 'wire0',
      server: { type: 'unix', path: '/run/a,b/nbd.sock' },
      export: 'm',
      'reconnect-delay': 300,
      'read-only': false,
      discard: 'unmap',
      'detect-zeroes': 'off'
    })
    expect(raw).toMatchObject({ driver: 'raw', file: 'wire0', 'read-only': false, discard: 'unmap' })
    expect(values(args, '-device')).toEqual([
      'virtio-blk-pci,drive=disk0,write-cache=on,discard=on,werror=report,bootindex=0'
    ])
    expect(args.filter(arg => /^-(drive|hda|monitor|qmp|vnc)$/.test(arg))).toEqual([])
  })

  test('takes KVM where it is, and always can go on without', () => {
    expect(values(argsOf({ kvm: true }), '-accel')).toEqual(['kvm', 'tcg,thread=multi'])
    expect(values(argsOf(), '-accel')).toEqual(['tcg,thread=multi'])
  })

  test('has the console on stdin and stdout; at a terminal with a way out', () => {
    expect(values(argsOf(), '-serial')).toEqual(['stdio'])
    expect(values(argsOf({ terminal: true }), '-serial')).toEqual(['mon:stdio'])
    expect(values(argsOf(), '-display')).toEqual(['none'])
  })

  test('of a read-only machine opens the disk so', () => {
    for (const text of values(argsOf({ readOnly: true }), '-blockdev')) {
      expect(JSON.parse(text)).toMatchObject({ 'read-only': true })
    }
  })

  test('restricts or relays the network', () => {
    expect(values(argsOf({ network: { mode: 'restricted' } }), '-netdev')).toEqual(['user,id=net0,restrict=on'])
    expect(values(argsOf({ network: { mode: 'user', socketPath: '/t,mp/s' } }), '-netdev')).toEqual([
      'stream,id=net0,server=off,addr.type=unix,addr.path=/t,,mp/s'
    ])
  })
})

describe('ours steps back where the user’s own option would clash', () => {
  test.each([
    [['-m', '4096'], '-m', ['4096']],
    [['--m', '4096'], '-m', []],
    [['-cpu', 'host'], '-cpu', ['host']],
    [['-accel', 'tcg'], '-accel', ['tcg']],
    [['-enable-kvm'], '-accel', []],
    [['-machine', 'q35,accel=tcg'], '-accel', []],
    [['-M', 'q35'], '-accel', ['tcg,thread=multi']],
    [['-serial', 'file:console'], '-serial', ['file:console']],
    [['-monitor', 'stdio'], '-serial', []],
    [['-chardev', 'stdio,id=x'], '-serial', []],
    [['-chardev', 'socket,id=agent,path=/x'], '-serial', ['stdio']],
    [['-nographic'], '-serial', ['mon:stdio']],
    [['-nographic'], '-display', []],
    [['-display', 'gtk'], '-display', ['gtk']],
    [['-vnc', ':1'], '-vga', ['std']],
    [['-vnc', ':1', '-device', 'virtio-vga'], '-vga', []],
    [['-nic', 'user'], '-nic', ['user']],
    [['-netdev', 'tap,id=t'], '-nic', []],
    [['-sandbox', 'off'], '-sandbox', ['off']],
    [['-name', 'x'], '-name', ['x']]
  ])('%j', (extra, option, expected) => {
    expect(values(argsOf({ extra }), option)).toEqual(expected)
    expect(argsOf({ extra }).slice(-extra.length)).toEqual(extra)
  })

  test('another order of boot', () => {
    for (const extra of [
      ['-boot', 'd'],
      ['-device', 'ide-cd,drive=c,bootindex=0']
    ]) {
      expect(values(argsOf({ extra }), '-device')[0]).not.toContain('bootindex')
    }
  })
})

test('options that open the guest are named', () => {
  expect(openings(['-m', '512'])).toEqual([])
  expect(openings(['-nic', 'user', '-virtfs', 'x', '--sandbox', 'off'])).toEqual(['-sandbox', '-nic', '-virtfs'])
})

test('the line can be typed into a shell', () => {
  const args = ['-a', "it's", '{"x": "$y"}', '', '-b=c:d,e']
  const line = shellLine({ file: 'printf', args: ['%s\\n', ...args] })
  const shell = spawnSync('sh', ['-c', line], { encoding: 'utf8' })
  expect(shell.stdout).toBe(`${args.join('\n')}\n`)
})

const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0

describe.skipIf(!hasQemu)('the installed QEMU', () => {
  /** Firmware that never gets to run (-S); QEMU has then taken its options, opened the disk and shut its sandbox. */
  test.each<[string, Partial<QemuOptions>, string[]]>([
    ['no network', {}, []],
    ['a restricted network', { network: { mode: 'restricted' } }, []],
    ['a read-only disk', { readOnly: true }, []],
    ['a window', {}, ['-vnc', 'none']],
    ['no graphic', {}, ['-nographic']],
    ['a terminal', { terminal: true }, ['-smp', '2', '-m', '128']]
  ])('accepts the command with %s and opens the export', async (_what, options, extra) => {
    const device = new MemoryDevice(1024 * 1024, { readOnly: options.readOnly === true })
    const { path, server } = await serve({ m: device })
    const qmp = join(await temporaryFolder(), 'qmp')
    const own = ['-S', '-qmp', `unix:${qmp},server=on,wait=off`]
    const qemu = start(...commandOf({ ...options, socketPath: path, extra: [...extra, ...own] }))
    // It only answers from its main loop, when it has taken all of its options.
    const control = await waitUntil('QEMU', () => (qemu.exit === undefined ? greeted(qmp) : undefined), {
      details: () => qemu.tail()
    })
    expect(server.clients('m')).toBe(1)
    expect(qemu.stderr.replace(/.*warning:.*\n?/g, '')).toBe('')
    control.write('{"execute":"qmp_capabilities"}{"execute":"quit"}')
    expect((await qemu.exited).status).toBe(0)
  })
})

/** A connection on which QEMU has said hello; undefined while it cannot be had. */
async function greeted(path: string): Promise<Socket | undefined> {
  const socket = connect(path)
  try {
    await once(socket, 'data')
    return socket
  } catch {
    // Not there or not listening yet: the caller asks again.
    return undefined
  }
}

function commandOf(options: Partial<QemuOptions>): [file: string, args: string[]] {
  const { file, args } = qemuCommand({ ...base, ...options })
  return [file, args]
}
