/**
 * The command line that boots a machine: QEMU in its sandbox, on an NBD disk, with what a guest needs and no more.
 *
 * A pure function. The user's own arguments come last; where a second option of ours would clash with one of them, ours
 * steps back. An image is hostile code: the disk is always raw (so that no header in it names a file of the host), and
 * without a word from the user there is no network.
 */

import { dataExport } from './machine-socket.ts'

/** How a guest is connected: not at all; to nothing but itself; or through a relay (guest-network.ts) to the world. */
export type QemuNetwork = { mode: 'none' } | { mode: 'restricted' } | { mode: 'user'; socketPath: string }

export interface QemuOptions {
  machine: string
  /** Of the NBD server. */
  socketPath: string
  readOnly: boolean
  /** Whether the machine has a second disk. */
  dataDisk?: boolean
  network: QemuNetwork
  /** Whether to use KVM (see accelerator.ts). Where it cannot be opened all the same, QEMU goes on without. */
  kvm: boolean
  /** Whether a person is at the console: Ctrl-C then goes to the guest, and Ctrl-A X ends it. */
  terminal: boolean
  /** The user's QEMU arguments. */
  extra: readonly string[]
}

export const QEMU = 'qemu-system-x86_64'
/** All that the accelerator can give. */
export const CPU_ARGS = ['-cpu', 'max']
const DEFAULT_MEMORY_MIB = 1024
/** How long QEMU pauses a guest's disk for a daemon that is away, before the guest sees I/O errors. */
const RECONNECT_DELAY_SECONDS = 300

const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'

/** The program and its arguments. */
export function qemuCommand(options: QemuOptions): { file: string; args: string[] } {
  const given = userOptions(options.extra)
  const args = ['-nodefaults', '-no-user-config']
  if (!given.has('-name')) args.push('-name', options.machine)
  if (!given.has('-sandbox')) args.push('-sandbox', SANDBOX)
  if (!givesAcceleration(given)) args.push(...acceleration(options.kvm))
  if (!given.has('-cpu')) args.push(...CPU_ARGS)
  if (!given.has('-m')) args.push('-m', String(DEFAULT_MEMORY_MIB))
  args.push(...disk(options, given))
  if (options.dataDisk === true) args.push(...drive(options, dataExport(options.machine), 1, ''))
  if (!['-nic', '-net', '-netdev'].some(option => given.has(option))) args.push(...network(options.network))
  args.push(...screen(given))
  if (!takesConsole(given)) {
    // Without an escape key of the monitor, Ctrl-C would end QEMU instead of reaching the guest's shell.
    args.push('-serial', options.terminal || given.has('-nographic') ? 'mon:stdio' : 'stdio')
  }
  return { file: QEMU, args: [...args, ...options.extra] }
}

/** Whether the user chose the accelerator. */
export function choosesAccelerator(extra: readonly string[]): boolean {
  return givesAcceleration(userOptions(extra))
}

/** What a user gave of options that open the guest to the host or the network; for a warning. */
export function openings(extra: readonly string[]): string[] {
  const given = userOptions(extra)
  const opening = [
    '-sandbox',
    '-nic',
    '-net',
    '-netdev',
    '-virtfs',
    '-fsdev',
    '-monitor',
    '-qmp',
    '-qmp-pretty',
    '-mon'
  ]
  return opening.filter(option => given.has(option))
}

/** The command as it could be typed into a shell. */
export function shellLine({ file, args }: { file: string; args: string[] }): string {
  return [file, ...args]
    .map(arg => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`))
    .join(' ')
}

/** Option names, with one dash, and the values that follow them. */
function userOptions(extra: readonly string[]): Map<string, string[]> {
  const given = new Map<string, string[]>()
  extra.forEach((arg, index) => {
    if (!arg.startsWith('-') || arg === '-') return
    const name = arg.startsWith('--') ? arg.slice(1) : arg
    given.set(name, [...(given.get(name) ?? []), extra[index + 1] ?? ''])
  })
  return given
}

function givesAcceleration(given: Map<string, string[]>): boolean {
  if (given.has('-accel') || given.has('-enable-kvm')) return true
  return ['-machine', '-M'].some(option => given.get(option)?.some(value => /(^|,)accel=/.test(value)))
}

/** KVM where it can be had; of several, QEMU takes the first that works. */
function acceleration(kvm: boolean): string[] {
  return [...(kvm ? ['-accel', 'kvm'] : []), '-accel', 'tcg,thread=multi']
}

function disk(options: QemuOptions, given: Map<string, string[]>): string[] {
  // The guest boots from it, unless the user has an order of his own.
  const ordered = given.has('-boot') || [...given.values()].flat().some(value => value.includes('bootindex='))
  return drive(options, options.machine, 0, ordered ? '' : ',bootindex=0')
}

function drive({ socketPath, readOnly }: QemuOptions, name: string, number: number, more: string): string[] {
  // JSON, because it needs no escaping of commas in paths.
  const wire = {
    driver: 'nbd',
    'node-name': `wire${number}`,
    server: { type: 'unix', path: socketPath },
    export: name,
    'reconnect-delay': RECONNECT_DELAY_SECONDS,
    'read-only': readOnly,
    discard: 'unmap',
    'detect-zeroes': 'off'
  }
  const raw = {
    driver: 'raw',
    'node-name': `disk${number}`,
    file: `wire${number}`,
    'read-only': readOnly,
    discard: 'unmap',
    'detect-zeroes': 'off'
  }
  // Where there is no space for a write QEMU would stop the guest without a word, until somebody finds its monitor.
  const device = `virtio-blk-pci,drive=disk${number},write-cache=on,discard=on,werror=report${more}`
  return ['-blockdev', JSON.stringify(wire), '-blockdev', JSON.stringify(raw), '-device', device]
}

function network(choice: QemuNetwork): string[] {
  const card = ['-device', 'virtio-net-pci,netdev=net0']
  switch (choice.mode) {
    case 'none':
      return ['-nic', 'none']
    case 'restricted':
      return ['-netdev', 'user,id=net0,restrict=on', ...card]
    case 'user': {
      const path = choice.socketPath.replaceAll(',', ',,')
      return ['-netdev', `stream,id=net0,server=off,addr.type=unix,addr.path=${path}`, ...card]
    }
  }
}

/** No window, unless the user wants one; then also a card to draw on, since -nodefaults leaves none. */
function screen(given: Map<string, string[]>): string[] {
  if (given.has('-nographic') || given.has('-curses')) return []
  const wanted = ['-display', '-vnc', '-spice', '-sdl'].filter(option => given.has(option))
  if (wanted.length === 0) return ['-display', 'none']
  const hasCard =
    given.has('-vga') || (given.get('-device') ?? []).some(value => /^(VGA|[\w-]*vga|virtio-gpu|bochs)/.test(value))
  return hasCard || given.get('-display')?.every(value => value === 'none') ? [] : ['-vga', 'std']
}

/** Whether the user has another console, or another use for stdin and stdout. */
function takesConsole(given: Map<string, string[]>): boolean {
  if (given.has('-serial')) return true
  const others = ['-chardev', '-monitor', '-qmp', '-qmp-pretty', '-parallel']
  return others.some(option => given.get(option)?.some(value => /^(mon:)?stdio\b/.test(value)))
}
