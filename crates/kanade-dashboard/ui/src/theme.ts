import { createTheme, type MantineColorsTuple } from '@mantine/core';

const pine: MantineColorsTuple = [
  '#ecfaf8', '#d8f1ee', '#aee3dc', '#81d4c9', '#5dc8ba', '#46c0b0', '#2aa797', '#1c8a7c', '#117a6d', '#00695d',
];

export const theme = createTheme({
  primaryColor: 'pine',
  primaryShade: 8,
  colors: {
    pine,
    // Calmer and a little bluer than the default.
    dark: ['#d5dae1', '#aab3bf', '#8a94a3', '#5d6776', '#3a434f', '#2b323c', '#1f252d', '#171c23', '#11151b', '#0c0f14'],
  },
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSizes: { xs: '0.75rem', sm: '0.8125rem', md: '0.875rem', lg: '1rem', xl: '1.125rem' },
  headings: { fontWeight: '650', sizes: { h1: { fontSize: '1.25rem' }, h2: { fontSize: '1rem' }, h3: { fontSize: '0.9rem' } } },
  defaultRadius: 'sm',
  cursorType: 'pointer',
  autoContrast: true,
  components: {
    Button: { defaultProps: { size: 'xs' } },
    ActionIcon: { defaultProps: { variant: 'subtle', color: 'gray' } },
    Tooltip: { defaultProps: { openDelay: 250, withArrow: true, multiline: true, maw: 320, events: { hover: true, focus: true, touch: true } } },
    TextInput: { defaultProps: { size: 'xs' } },
    Select: { defaultProps: { size: 'xs', comboboxProps: { shadow: 'md' } } },
    TagsInput: { defaultProps: { size: 'xs', comboboxProps: { shadow: 'md' } } },
    SegmentedControl: { defaultProps: { size: 'xs' } },
    Modal: { defaultProps: { centered: false, overlayProps: { backgroundOpacity: 0.4 } } },
  },
});
